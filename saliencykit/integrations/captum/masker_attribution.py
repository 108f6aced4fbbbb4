"""MaskerAttribution: any masker as an attribution method of Captum."""

from collections.abc import Callable, Iterable
from typing import Any, final, get_args

import torch
from torch import Generator, Tensor

from saliencykit.core import checks, rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.output import Output
from saliencykit.core.types import Images, Labels
from saliencykit.integrations.captum.captum_baselines import (
    averaged,
    whole_numbers,
    with_baseline,
    with_regions,
)
from saliencykit.integrations.captum.forward import (
    Limited,
    Statistics,
    bind_forward,
    black_box_of_model,
    is_black_box,
    raw_pixels,
)
from saliencykit.integrations.captum.image_inputs import as_tuple, expanded, images_of
from saliencykit.integrations.captum.targets import labels_of
from saliencykit.integrations.masker_values import Values, values_of
from saliencykit.registry.coerce import as_masker

try:
    from captum.attr import PerturbationAttribution
    from captum.log import log_usage
except ImportError:
    raise InputError(
        "MaskerAttribution needs Captum, which is not installed: pip install 'saliencykit[captum]'."
    ) from None

_CHUNK = 16  # rows at once; the results do not depend on it
_WHO = "MaskerAttribution"


@final
class MaskerAttribution(PerturbationAttribution):  # type: ignore[misc]
    """Any masker as an attribution method of Captum: for its metrics, `NoiseTunnel`, visualization,
    and code written for Captum.

    It is as good and as costly as the masker. Inputs are a batch of images as the model takes them,
    in any range. A masker gives one number per pixel, so that all channels of an attribution are
    equal. The model runs in eval mode and is left unchanged; a plain function is called as it is.

    Attributions are probabilities or differences of them: outputs are read as logits, and a single
    output as that of a sigmoid. With `output="score"`, for a regression, they are scores or
    differences of them, positive where they speak for the score that the image has.

    Args:
        forward_func: As for Captum: a module, or a function of tensors. Also a BlackBox, whose
            images the inputs then are.
        masker: A Masker, or a text such as `rise:samples=500`.
        values: `mask`, in [0, 1], or `attributions`, the signed numbers behind it, for maskers
            that have them.
        mean: Per channel: what raw pixels in [0, 1] were normalized with, so that the masker sees
            raw pixels. It makes a difference where a masker's own alternative is a color, and where
            a trained masker has an encoder of its own.
        std: With `mean`.
        output: What a column means: `softmax`, `sigmoid` or `score`, see `TorchBlackBox`.
        probabilities: The model ends in a softmax or sigmoid.
        seed: Random seed, in [0, 2**63); a row gets the same numbers alone and in a batch.

    Raises:
        InputError: Captum is not installed, or an argument cannot be used.

    Example:
        >>> from captum.attr import NoiseTunnel
        >>> from saliencykit.testing import small_network
        >>> attribution = MaskerAttribution(small_network(), "occlusion:window=6")
        >>> x = torch.randn(2, 3, 16, 16)
        >>> attribution.attribute(x, target=1).shape
        torch.Size([2, 3, 16, 16])
        >>> NoiseTunnel(attribution).attribute(x, target=[0, 3], nt_samples=2, stdevs=0.1).shape
        torch.Size([2, 3, 16, 16])

    References:
        Kokhlikyan et al. 2020, "Captum: A unified and generic model interpretability library for
        PyTorch".
    """

    def __init__(
        self,
        forward_func: Callable[..., Any] | BlackBox,
        masker: Masker | str = "rise",
        *,
        values: Values = "mask",
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        output: Output = "softmax",
        probabilities: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(forward_func)
        self.masker = as_masker(masker)
        checks.one_of(_WHO, get_args(Values), values=values)
        if not callable(forward_func):
            raise InputError(f"{_WHO} takes a model or a function; got {forward_func!r}.")
        checks.seed(seed, _WHO)
        self.values, self.seed = values, seed
        self.output, self.probabilities = output, probabilities
        self.statistics: Statistics = (mean, std)
        if is_black_box(forward_func):  # fail early
            black_box_of_model(forward_func, self.statistics, output, probabilities)

    @log_usage()  # type: ignore[untyped-decorator]  # NoiseTunnel calls `attribute.__wrapped__`
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        feature_mask: Any = None,
        perturbations_per_eval: int | None = None,
        show_progress: bool = False,
    ) -> Tensor | tuple[Tensor, ...]:
        """Attribute the target to the inputs.

        Args:
            inputs: A float tensor (B, C, H, W), or a tuple of one.
            baselines: What fills removed pixels: a number or a tensor with 1 or B rows. None: the
                masker's own alternative (and not 0, as in Captum).
            target: An index, a tuple of indices for outputs of several dimensions, a tensor or list
                with one per row, or None for a single output.
            additional_forward_args: Passed to the forward function after the inputs. Tensors with B
                rows are split with the inputs.
            feature_mask: Integers in a tensor that can be expanded to the inputs: pixels with one
                number are one feature. A masker that has regions (`feature-ablation`) uses these;
                the map of another masker is averaged over them.
            perturbations_per_eval: The maximum number of images per forward pass. None: what suits
                the model and the machine.
            show_progress: Attribute row by row, with a progress bar.

        Returns:
            The attributions, with the shape, dtype and device of the inputs, contiguous; a tuple
            for a tuple.

        Raises:
            InputError: An argument does not fit; it is an AssertionError too, as Captum's are.
            GradientError: The masker needs gradients and the model is query-only.
        """
        given, limit = images_of(inputs), perturbations_per_eval
        checks.counts(f"{_WHO}.attribute", perturbations_per_eval=limit)
        with rng.isolated(given.device), torch.no_grad():
            images = raw_pixels(given.detach().clone(), self.statistics)
            fill = features = None
            if baselines is not None:
                fill = raw_pixels(expanded(baselines, given, "baselines"), self.statistics)
            if feature_mask is not None:
                features = whole_numbers(expanded(feature_mask, given, "feature_mask"))
            extra = () if additional_forward_args is None else as_tuple(additional_forward_args)
            alone = show_progress or (fill is not None and len(fill) > 1)
            alone = alone or any(_has_rows(each, len(images)) for each in extra)
            parts: list[Tensor] = []
            for rows in _chunks(len(images), 1 if alone else _CHUNK, show_progress):
                if not parts or extra:
                    args = tuple(e[rows] if _has_rows(e, len(images)) else e for e in extra)
                    black_box, shape = self._bind(args, images[rows][:1], given, target)
                    labels = labels_of(target, shape, len(images), black_box.output)
                    black_box = black_box if limit is None else Limited(black_box, limit)
                chosen = (_rows(fill, rows), _rows(features, rows))
                parts.append(self._maps(black_box, images[rows], labels[rows], *chosen))
            maps = torch.cat(parts).to(given).expand(given.shape).contiguous()
        return (maps,) if isinstance(inputs, tuple) else maps

    def _bind(
        self, args: tuple[Any, ...], image: Images, like: Tensor, target: Any
    ) -> tuple[BlackBox, tuple[int, ...]]:
        """The black box for some additional arguments, and the shape of one row's output."""
        rows = target if isinstance(target, list) else [target]
        return bind_forward(
            self.forward_func,
            args,
            image,
            like=like,
            several_dimensions=any(isinstance(row, tuple) for row in rows),
            statistics=self.statistics,
            output=self.output,
            probabilities=self.probabilities,
        )

    def _maps(
        self,
        black_box: BlackBox,
        images: Images,
        labels: Labels,
        fill: Tensor | None,
        features: Tensor | None,
    ) -> Tensor:
        """The values of some rows, (b, 1 or C, H, W)."""
        raw = is_black_box(self.forward_func) or self.statistics[0] is not None
        masker = self.masker.bound_to(black_box, inputs="raw" if raw else "normalized")
        if fill is not None:
            masker = with_baseline(masker, fill)
        by_regions = None if features is None else with_regions(masker, features)
        output = (by_regions or masker).attribute(
            black_box,
            images.to(black_box.device),
            labels.to(black_box.device),
            generator=Generator().manual_seed(self.seed),
        )
        maps = values_of(output, self.values, masker)
        if features is None or by_regions is not None:
            return maps
        return averaged(maps.to(features.device).expand(images.shape), features)


def _chunks(count: int, size: int, show_progress: bool) -> Iterable[slice]:
    chunks = [slice(first, first + size) for first in range(0, count, size)]
    if not show_progress:
        return chunks
    from tqdm import tqdm  # type: ignore[import-untyped]  # a dependency of Captum

    shown: Iterable[slice] = tqdm(chunks, desc=_WHO)
    return shown


def _rows(values: Tensor | None, rows: slice) -> Tensor | None:
    return values if values is None or len(values) == 1 else values[rows]


def _has_rows(value: object, count: int) -> bool:
    """Whether it is a tensor with a row for each input."""
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == count > 1
