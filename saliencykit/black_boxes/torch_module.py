"""TorchBlackBox: any torch module as a black box."""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Annotated, Any, final

import torch
from PIL.Image import Image
from torch import Tensor, nn

from saliencykit.black_boxes.class_names import check_class_names
from saliencykit.black_boxes.extra_inputs import ExtraInputs
from saliencykit.black_boxes.input_size import check_size, height_width
from saliencykit.black_boxes.model_output import read_logits, tensor_in, warn_of_misreading
from saliencykit.black_boxes.module_checks import check_weights, is_quantized, reason_of_failure
from saliencykit.black_boxes.pixel_range import checked_pixel_range
from saliencykit.black_boxes.preprocessing import Fit, Interpolation, fit_image
from saliencykit.black_boxes.target_black_box import read_scores
from saliencykit.core.annotated_fields import check_fields
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.core.geometry import Geometry
from saliencykit.core.output import Output
from saliencykit.core.types import Images, Logits, Target
from saliencykit.networks.direct_execution import without_checkpointing
from saliencykit.networks.final_operation import FinalOperation
from saliencykit.networks.module_state import (
    StateWrites,
    in_use_elsewhere,
    restored_rng_state,
    unwrap,
)
from saliencykit.networks.optimized_copy import optimize
from saliencykit.networks.private_copy import is_private, private_copy, source_of
from saliencykit.networks.structure_cache import StructureCache

_endings: StructureCache[bool | None] = StructureCache()
"""Does a model itself apply a sigmoid or softmax at its end? It takes a further pass."""


@final
@dataclass(frozen=True, eq=False)
class TorchBlackBox(BlackBox):
    """Any torch module that classifies images; the module is not changed.

    The model runs in eval mode (where it is in training mode, or other threads may use it, a copy
    runs that shares its weights), in its own dtype and on its own device. It may return a tensor, a
    tuple that starts with the logits, a dict, or an object with `.logits`. A single output is a
    sigmoid's, and read as two classes, unless it is a score. Images (PIL) need `mean`, `std` and
    `size`; tensors need nothing.

    Args:
        model: The module; weights, modes, gradients and hooks are left alone.
        mean: Subtracted per channel, in the units of raw pixels in [0, 1]. None: the model
            normalizes by itself.
        std: Divided by per channel, > 0. None: with `mean`.
        size: Side or (height, width) of the input in pixels, for PIL images.
        fit: How an image is resized to `size`: `crop` (short side, then the center), `squash` (both
            sides) or `pad` (long side, then filled with the mean color).
        crop_pct: The fraction of the resized side that is kept, in (0, 1]; 224 of 256 is 0.875.
        interpolation: `bilinear`, `bicubic`, `nearest`, `lanczos`, `box` or `hamming`, with
            antialiasing.
        output: What a column means: `softmax` (an exclusive class), `sigmoid` (a label on its own:
            multi-label) or `score` (a number without a scale: regression, similarity).
        probabilities: The model ends in a softmax or sigmoid and returns values in [0, 1].
        target: From what the module returns to scores (B,) or (B, K), for `output="score"`; see
            `saliencykit.black_boxes.score_targets`. None: the output is read as logits.
        class_names: One name per class.
        max_batch_size: The largest batch that the model gets. None: no limit.
        forward_args: Further inputs of a model that takes several: a tuple, passed after the
            images, or a dict; see `ExtraInputs`.
        pixel_range: The values of black and white in raw images of more than 8 bits; see
            `with_pixel_range`.
        assumed: Where mean, std and size come from if nobody has given them; for the repr.

    Raises:
        InputError: Only one of mean and std is given, they differ in length, or an option is out of
            range.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5))
        >>> TorchBlackBox(model)(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 5])
    """

    model: nn.Module
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    size: int | tuple[int, int] | None = None
    fit: Fit = "crop"
    crop_pct: Annotated[float, "(0, 1]"] = 1.0
    interpolation: Interpolation = "bilinear"
    output: Output = "softmax"
    probabilities: bool = False
    target: Target | None = None
    class_names: Sequence[str] | None = field(default=None, repr=False)
    max_batch_size: Annotated[int | None, "[1, inf)"] = None
    forward_args: Sequence[Any] | Mapping[str, Any] | None = field(default=None, repr=False)
    pixel_range: tuple[float, float] | None = None
    assumed: str = ""
    _state: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the options."""
        who = "TorchBlackBox"
        if not isinstance(self.model, nn.Module):
            raise InputError(f"{who} takes a torch nn.Module; got {name_of(self.model)}.")
        mean, std = self.mean, self.std
        if (mean is None) != (std is None) or (mean and std and len(mean) != len(std)):
            raise InputError(
                f"{who} takes mean and std together, one number per channel; got {mean} and {std}."
            )
        if std is not None and min(std) <= 0:
            raise InputError(f"{who}: std must be > 0 in every channel; got {tuple(std)}.")
        if mean is not None and max(mean) > 10:
            raise InputError(
                f"{who}: mean and std are for pixels in [0, 1]; {tuple(mean)} is for 0..255, "
                "divide both by 255."
            )
        check_size(self.size, who)
        check_fields(self)
        if self.pixel_range is not None:
            object.__setattr__(self, "pixel_range", checked_pixel_range(self.pixel_range))
        if self.forward_args is not None:  # from here on, the model takes images alone
            object.__setattr__(self, "model", ExtraInputs(self.model, self.forward_args))
            object.__setattr__(self, "forward_args", None)

    def __repr__(self) -> str:
        """The configuration, without the model's layers."""
        statistics = f", mean={tuple(self.mean)}, std={tuple(self.std or ())}" if self.mean else ""
        options = f"{statistics}, size={self.size}, output={self.output!r}"
        options += f", pixel_range={self.pixel_range}" if self.pixel_range else ""
        options += f", assumed={self.assumed!r}" if self.assumed and self.mean else ""
        return f"TorchBlackBox({name_of(self.model)}{options})"

    @property
    def differentiable(self) -> bool:  # type: ignore[override]
        """Does the model have gradients? One that computes with integers has none."""
        if "differentiable" not in self._state:
            self._state["differentiable"] = not is_quantized(self.model)
        return bool(self._state["differentiable"])

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """K, known after the first query; before it, one gray image of `size` is evaluated."""
        if "num_classes" not in self._state:
            if self.size is None:
                raise InputError(
                    f"the number of classes of TorchBlackBox({name_of(self.model)}) is not known "
                    "yet; query it once, or give size=."
                )
            shape = (1, len(self.mean) if self.mean else 3, *self.input_size)
            with torch.no_grad():
                self.logits(torch.full(shape, 0.5, device=self.device, dtype=torch.float32))
        return int(self._state["num_classes"])

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where the model's first parameter or buffer is; the CPU if it has none."""
        return self._example().device

    @property
    def module(self) -> nn.Module:  # type: ignore[override]
        """The model, inside of `torch.compile` and parallel wrappers."""
        return unwrap(self.model)

    @property
    def source_module(self) -> nn.Module:
        """The user's own model, also for an optimized copy."""
        return source_of(self.module)

    @property
    def baseline_color(self) -> tuple[float, ...] | None:  # type: ignore[override]
        """The raw color that normalization maps to 0: the mean."""
        return None if self.mean is None else tuple(self.mean)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels.

        Raises:
            InputError: `size` is not known.
        """
        if self.size is None:
            raise InputError(
                f"the input size of {name_of(self.model)} is unknown; write TorchBlackBox(model, "
                "..., size=224)."
            )
        return height_width(self.size)

    def prepare(self, image: Image) -> tuple[Images, Geometry]:
        """Resize and crop an image as `size`, `fit` and `crop_pct` say; see `BlackBox.prepare`."""
        if self.mean is None:
            layers = (layer for layer in self.model.modules() if isinstance(layer, nn.Conv2d))
            gray = getattr(next(layers, None), "in_channels", 3) == 1
            mean, std = ("(0,)", "(1,)") if gray else ("(0, 0, 0)", "(1, 1, 1)")
            raise InputError(
                f"the pixel statistics of {name_of(self.model)} are unknown, so an image cannot be "
                "normalized for it. Write explain(TorchBlackBox(model, mean=(...), std=(...), "
                f"size=224), image); for a model that takes raw pixels in [0, 1] that is "
                f"mean={mean}, std={std}."
            )
        if self._state.pop("guessed", False):
            warnings.warn(
                f"{name_of(self.model)} does not say how images are normalized; mean="
                f"{tuple(self.mean)}, std={tuple(self.std or ())} are assumed: {self.assumed}. If "
                "that is wrong, write TorchBlackBox(model, mean=..., std=..., size=...).",
                stacklevel=2,
            )
        return fit_image(
            image,
            self.input_size,
            fit=self.fit,
            crop_pct=self.crop_pct,
            interpolation=self.interpolation,
            channels=len(self.mean),
            fill=self.mean if min(self.mean) >= 0 and max(self.mean) <= 1 else None,
        )

    def without_preprocessing(self) -> "TorchBlackBox":
        """The same model for images that are what `model(x)` takes; PIL images are not accepted."""
        black_box = replace(self, mean=None, std=None)
        black_box._state.update(self._state)
        return black_box

    def optimized_for(self, images: Images) -> "TorchBlackBox":
        """An optimized copy: batch norms folded, channels_last, and a batch size that suits the
        device; see `networks.optimized_copy`.
        """
        if self._state.get("optimized_size") == images.shape[1:]:
            return self
        optimized = optimize(self.model, self._normalize(images[:2]))
        most = optimized.max_batch_size
        most = min(most, self.max_batch_size or most)
        black_box = replace(self, model=optimized.model, max_batch_size=most)
        black_box._state.update(self._state)
        if optimized.model is not self.model:
            black_box._state["optimized_size"] = images.shape[1:]
        return black_box

    def logits(self, images: Images) -> Logits:
        """Normalize, cast, run the model in eval mode, read its output, cast back."""
        inputs = self._normalize(images)
        try:
            model = self._model_to_run()
            watched = nullcontext() if "writes" in self._state else StateWrites(model)
            with watched as writes, restored_rng_state(self.source_module), without_checkpointing():
                output = model(inputs)
            if writes is not None:
                self._state["writes"] = writes.any
                if writes.weights:
                    raise InputError(
                        f"{name_of(self.model)} writes into its own weights when it is queried, as "
                        "layers do that set them by the first images they see; run it once on "
                        "images of its own, model(images), before it is explained."
                    )
        except SaliencyKitError:
            raise
        except Exception as error:
            size = None if self.size is None else self.input_size
            reason = reason_of_failure(self.model, error, images, size, self._example())
            raise InputError(reason) from error
        who = name_of(self.model)
        if self.target is not None:
            logits = read_scores(self.target, output, len(images), who)
        else:
            logits = read_logits(output, len(images), who, self.output, self.probabilities)
        if "num_classes" not in self._state:
            check_class_names(self.class_names, logits.shape[1], who)
            self._state["num_classes"] = logits.shape[1]
            made = partial(self._made_probabilities, inputs)
            warn_of_misreading(
                logits, who, self.output, self.probabilities, made_probabilities=made
            )
        return logits.to(images.dtype)

    def _made_probabilities(self, inputs: Tensor) -> bool | None:
        """Does the model itself apply a sigmoid or softmax at its end? Looked at once per model."""
        known = _endings.of(self.source_module)
        if "made" not in known:
            try:
                with torch.no_grad(), restored_rng_state(), FinalOperation() as operation:
                    answer = private_copy(self.source_module)(inputs)  # without our own hooks
                known["made"] = operation.made_probabilities(tensor_in(answer))
            except Exception:  # it cannot run in this mode
                known["made"] = None
        return known["made"]

    def _model_to_run(self) -> nn.Module:
        """A private copy in eval mode, if the model itself is in training mode or may soon be,
        writes into its own buffers, or has weights of inference mode, which have no graph.
        """
        if "frozen" not in self._state:
            self._state["frozen"] = any(each.is_inference() for each in self.model.parameters())
        own_use = self._state["frozen"] or self._state.get("writes")
        busy = own_use or in_use_elsewhere(self.model)
        own = is_private(self.model) or not busy
        return self.model if own else private_copy(self.model)

    def _normalize(self, images: Images) -> Images:
        example = self._example()
        if self.mean is None or self.std is None:
            # a new tensor: a model whose first layer works in place must not touch the caller's
            normalized = images * 1
        else:
            if images.shape[1] != len(self.mean):
                raise InputError(
                    f"images have {images.shape[1]} channels, and mean and std have "
                    f"{len(self.mean)} numbers; give one number per channel."
                )
            mean, std = (images.new_tensor(v).view(1, -1, 1, 1) for v in (self.mean, self.std))
            normalized = (images - mean).div_(std)  # in place: one pass over the pixels less
        return normalized.to(example.dtype) if example.is_floating_point() else normalized

    def _example(self) -> Tensor:
        """A tensor on the model's device and in its precision."""
        if "num_classes" not in self._state:  # before the first query
            check_weights(self.model)
        for tensor in chain(self.model.parameters(), self.model.buffers()):
            if tensor.is_floating_point():
                return tensor
        return torch.empty(0, dtype=torch.float32, device="cpu")
