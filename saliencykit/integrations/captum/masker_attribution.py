"""MaskerAttribution: any masker as an attribution of Captum."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias, final

import torch
from torch import Generator, Tensor

from saliencykit.black_boxes.model_output import OutputKind
from saliencykit.core import checks, rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images, Labels
from saliencykit.integrations.captum.canvas import Canvas, as_tuple
from saliencykit.integrations.captum.captum_baselines import (
    averaged,
    whole_numbers,
    with_baseline,
    with_regions,
)
from saliencykit.integrations.captum.forward import (
    Limited,
    Statistics,
    asked,
    black_box_of_model,
    is_black_box,
    raw_pixels,
)
from saliencykit.integrations.captum.targets import labels_of
from saliencykit.registry.coerce import as_masker

try:
    from captum.attr import PerturbationAttribution
    from captum.log import log_usage
except ImportError:
    raise InputError(
        "MaskerAttribution is for Captum, which is not installed: pip install "
        "'saliencykit[captum]'."
    ) from None

Values: TypeAlias = Literal["mask", "scores"]
_CHUNK = 16  # rows that are attributed together; they do not depend on it
_WHO = "MaskerAttribution"


@final
class MaskerAttribution(PerturbationAttribution):  # type: ignore[misc]
    """Any masker of this library as an attribution of Captum, for its metrics, `NoiseTunnel`,
    pictures, and code that speaks it.

    As good and as costly as the masker. Inputs are what the model takes, in whatever range, as
    Captum's are. A masker answers with one number per pixel, so the channels of an attribution are
    equal; pictures of several inputs lie side by side on one picture, and anything else becomes a
    line of single numbers (see `Canvas`), on which maskers that read a model's layers say that they
    cannot work. The model runs in eval mode and is given back as it was; a plain function is called
    as it is.

    Scores are probabilities, or differences of them: outputs are read as logits, and a single
    output as that of a sigmoid. A regression whose answers are in the hundreds should be scaled in
    the forward function, else the sigmoid is 0 or 1 everywhere.

    Args:
        forward_func: As for Captum: a module or a function of tensors. Also a BlackBox, whose
            images the inputs then are.
        masker: A Masker, or a text such as `rise:samples=500`.
        values: `mask`, in [0, 1], or `scores`, the signed numbers that the mask was made from, for
            maskers that have them.
        mean: Per channel: what pixels in [0, 1] were normalised with, so that the masker sees
            these, as `explain` shows them. It makes a difference where a masker's own alternative
            is a colour, and where a trained masker looks at pixels itself.
        std: With `mean`.
        outputs: `logits`, or `probabilities` if the model ends in a softmax or sigmoid.
        seed: Of everything that is drawn, in [0, 2**63): a row gets the same numbers on its own and
            in a batch.

    Raises:
        InputError: Captum is not installed, or an argument is not one of these.

    Example:
        >>> from captum.attr import NoiseTunnel
        >>> from saliencykit.testing.black_boxes import small_network
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
        outputs: OutputKind = "logits",
        seed: int = 0,
    ) -> None:
        super().__init__(forward_func)
        self.masker = as_masker(masker)
        if not callable(forward_func) or values not in ("mask", "scores"):
            raise InputError(
                f"{_WHO} takes a model or function, and values='mask' or 'scores'; got "
                f"{forward_func!r}, {values!r}."
            )
        checks.seed(seed, _WHO)
        self.values, self.outputs, self.seed = values, outputs, seed
        self.statistics: Statistics = (mean, std)
        if is_black_box(forward_func):
            black_box_of_model(
                forward_func, self.statistics, outputs
            )  # say at once what does not fit

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
            inputs: A float tensor (B, ...) or a tuple of them.
            baselines: What stands where a pixel is taken away: a number or a tensor with 1 or B
                rows, one per input. None: the masker's own alternative (and not 0, as in Captum).
            target: An index, a tuple of indices for outputs of several dimensions, a tensor or list
                with one per row, or None for a single output.
            additional_forward_args: Given to the forward function after the inputs. Tensors with B
                rows are dealt out with them.
            feature_mask: Whole numbers, one tensor per input that can be expanded to it: pixels
                with one number are one feature. A masker that has regions (`feature-ablation`) is
                asked about these; the map of another one is averaged over them.
            perturbations_per_eval: The most images that the model is given at once. None: what
                suits the model and the machine.
            show_progress: Attribute row by row, with a bar.

        Returns:
            One tensor per input, of its shape, dtype and device, contiguous: a tensor for a tensor,
            a tuple for a tuple.

        Raises:
            InputError: An argument does not fit; it is an AssertionError too, as Captum's are.
            GradientError: The masker needs gradients and the model can only be queried.
        """
        tensors = as_tuple(inputs)
        canvas = Canvas.of(tensors)
        if not (
            perturbations_per_eval is None
            or (isinstance(perturbations_per_eval, int) and perturbations_per_eval >= 1)
        ):
            raise InputError(
                f"{_WHO}.attribute: perturbations_per_eval is >= 1 or None; got "
                f"{perturbations_per_eval!r}."
            )
        with rng.isolated(*{tensor.device for tensor in tensors}), torch.no_grad():
            count = len(tensors[0])
            images = raw_pixels(
                canvas.picture(tuple(tensor.detach().clone() for tensor in tensors)),
                self.statistics,
            )
            fill = (
                None
                if baselines is None
                else raw_pixels(canvas.spread(baselines, count, "baselines"), self.statistics)
            )
            features = (
                None
                if feature_mask is None
                else whole_numbers(canvas.spread(feature_mask, count, "feature_mask"))
            )
            extra = () if additional_forward_args is None else as_tuple(additional_forward_args)
            alone = (
                show_progress
                or any(_dealt(value, count) for value in extra)
                or (fill is not None and len(fill) > 1)
            )
            parts, black_box, labels = [], None, None
            for rows in _groups(count, 1 if alone else _CHUNK, show_progress):
                if black_box is None or extra:
                    here = tuple(value[rows] if _dealt(value, count) else value for value in extra)
                    flat = not _of_several_dimensions(target)
                    black_box, sizes = asked(
                        self.forward_func,
                        canvas,
                        here,
                        images[rows],
                        flat=flat,
                        statistics=self.statistics,
                        outputs=self.outputs,
                    )
                    black_box = (
                        black_box
                        if perturbations_per_eval is None
                        else Limited(black_box, perturbations_per_eval)
                    )
                    labels = labels_of(target, sizes, count)
                assert labels is not None
                parts.append(
                    self._maps(
                        black_box, images[rows], labels[rows], _of(fill, rows), _of(features, rows)
                    )
                )
            answer = canvas.split(torch.cat(parts).to(images.device).expand(images.shape))
        return answer if isinstance(inputs, tuple) else answer[0]

    def _maps(
        self,
        black_box: BlackBox,
        images: Images,
        labels: Labels,
        fill: Tensor | None,
        features: Tensor | None,
    ) -> Tensor:
        """The values of some rows on the canvas, (b, 1 or C, H, W)."""
        masker, regions = self.masker, None
        raw = is_black_box(self.forward_func) or self.statistics[0] is not None
        masker = masker.for_black_box(black_box, inputs="raw" if raw else "normalized")
        if fill is not None:
            masker = with_baseline(masker, fill)
        if features is not None:
            regions = with_regions(masker, features)
        generator = Generator().manual_seed(self.seed)
        try:
            found = (regions or masker).attribute(
                black_box,
                images.to(black_box.device),
                labels.to(black_box.device),
                generator=generator,
            )
        except SaliencyKitError:
            raise
        except Exception as error:
            if min(images.shape[2:]) > 1:
                raise
            raise InputError(
                f"{name_of(masker)} cannot work on inputs that are no pictures, here a line of "
                f"{images.shape[3]} numbers. Use 'occlusion', 'rise', 'feature-ablation' or "
                "'gradient'."
            ) from error
        maps = found.mask if self.values == "mask" else found.attributions
        if maps is None:
            raise InputError(
                f"{name_of(masker)} has no scores but its mask; write {_WHO}(..., values='mask')."
            )
        if features is None or regions is not None:
            return maps
        return averaged(maps.to(features.device).expand(images.shape), features)


def _groups(count: int, size: int, show_progress: bool) -> Iterable[slice]:
    groups = [slice(first, first + size) for first in range(0, count, size)]
    if not show_progress:
        return groups
    from tqdm import tqdm  # type: ignore[import-untyped]  # Captum brings it

    shown: Iterable[slice] = tqdm(groups, desc=_WHO)
    return shown


def _of(rows: Tensor | None, some: slice) -> Tensor | None:
    return rows if rows is None or len(rows) == 1 else rows[some]


def _dealt(value: object, count: int) -> bool:
    """Is it a tensor with a row for each input?"""
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == count > 1


def _of_several_dimensions(target: Any) -> bool:
    return isinstance(target, tuple) or (
        isinstance(target, list) and any(isinstance(row, tuple) for row in target)
    )
