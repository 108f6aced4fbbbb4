"""TorchBlackBox: any torch module as a black box."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

from saliencykit.black_boxes.class_names import check_names
from saliencykit.black_boxes.outputs import OUTPUTS, Outputs, look_like_probabilities, read_logits
from saliencykit.black_boxes.preprocessing import FITS, INTERPOLATIONS, Fit, fit_image
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import first_line, name_of
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.core.geometry import Geometry
from saliencykit.core.types import Images, Logits
from saliencykit.networks.module_state import eval_mode, restored_rng_state, unwrap
from saliencykit.networks.optimized_copy import optimize

if TYPE_CHECKING:
    from PIL.Image import Image


@final
@dataclass(frozen=True, eq=False)
class TorchBlackBox(BlackBox):
    """Any torch module that classifies images, eval_mode and given back as it was.

    The model runs in eval mode (its own flags are put back after every call), in its own dtype and
    on its own device. It may return a tensor, a tuple that starts with the logits, a dict, or an
    object with `.logits`; a single output is read as a sigmoid's, as two classes. Only `mean` and
    `std` together with `size` let it take pictures; tensors need nothing.

    Args:
        model: The module; weights, modes, gradients and hooks are left alone.
        mean: Subtracted per channel, in the units of raw pixels in [0, 1]. None: the model
            normalises by itself.
        std: Divided by per channel, > 0. None: with `mean`.
        size: Side or (height, width) of the input in pixels, for pictures.
        fit: How a picture is brought to `size`: `crop` (short side, then the centre), `squash`
            (both sides) or `pad` (long side, the rest in the mean colour).
        crop_share: The share of the resized side that is kept, in (0, 1]; 224 of 256 is 0.875.
        interpolation: `bilinear`, `bicubic`, `nearest`, `lanczos`, `black_box` or `hamming`, with
            antialiasing.
        outputs: `logits`, or `probabilities` if the model ends in a softmax or sigmoid.
        class_names: One name per class.
        max_batch_size: The largest batch the model gets at once. None: no limit.

    Raises:
        InputError: Only one of mean and std is given, they differ in length, or a number or word is
            not one of those above.

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
    crop_share: float = 1.0
    interpolation: str = "bilinear"
    outputs: Outputs = "logits"
    class_names: Sequence[str] | None = field(default=None, repr=False)
    max_batch_size: int | None = None
    _facts: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    differentiable = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not isinstance(self.model, nn.Module):
            raise InputError(f"TorchBlackBox takes a torch nn.Module; got {name_of(self.model)}.")
        who = "TorchBlackBox"
        if (self.mean is None) != (self.std is None) or (
            self.mean and self.std and len(self.mean) != len(self.std)
        ):
            raise InputError(
                f"{who} takes mean and std together, one number per channel; got {self.mean} and "
                f"{self.std}."
            )
        if self.std is not None and min(self.std) <= 0:
            raise InputError(f"{who}: std is > 0 in every channel; got {tuple(self.std)}.")
        if self.mean is not None and max(self.mean) > 10:
            raise InputError(
                f"{who}: mean and std are for pixels in [0, 1]; {tuple(self.mean)} is for 0..255, "
                "divide both by 255."
            )
        if self.size is not None and min(self.input_size) < 1:
            raise InputError(f"{who}: size is a side or (height, width), >= 1; got {self.size}.")
        if not 0 < self.crop_share <= 1:
            raise InputError(f"{who}: crop_share is in (0, 1]; got {self.crop_share}.")
        if self.max_batch_size is not None and self.max_batch_size < 1:
            raise InputError(f"{who}: max_batch_size is >= 1 or None; got {self.max_batch_size}.")
        for name, known in (("fit", FITS), ("interpolation", INTERPOLATIONS), ("outputs", OUTPUTS)):
            if getattr(self, name) not in known:
                raise InputError(
                    f"{who}: {name} is one of {', '.join(known)}; got {getattr(self, name)!r}."
                )

    def __repr__(self) -> str:
        """The configuration, without the model's layers."""
        stats = (
            "" if self.mean is None else f", mean={tuple(self.mean)}, std={tuple(self.std or ())}"
        )
        return f"TorchBlackBox({name_of(self.model)}{stats}, size={self.size}, outputs={self.outputs!r})"

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """K, known after the first answer; before it, the model is asked about one grey image of
        `size`.
        """
        if "num_classes" not in self._facts:
            if self.size is None:
                raise InputError(
                    f"TorchBlackBox({name_of(self.model)}) has not answered yet; ask it once, or "
                    "give size=."
                )
            height, width = self.input_size
            channels = len(self.mean) if self.mean else 3
            with torch.no_grad():
                self.logits(torch.full((1, channels, height, width), 0.5, device=self.device))
        return int(self._facts["num_classes"])

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
        """The user's own model, for a frozen copy too."""
        found: nn.Module = self._facts.get("original", self.module)
        return found

    @property
    def baseline_color(self) -> tuple[float, ...] | None:  # type: ignore[override]
        """The raw colour that normalising maps to 0: the mean."""
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
        return (
            (self.size, self.size) if isinstance(self.size, int) else (self.size[0], self.size[1])
        )

    def prepare(self, picture: "Image") -> tuple[Images, Geometry]:
        """Resize and crop a picture as `size`, `fit` and `crop_share` say; see `BlackBox.prepare`."""
        if self.mean is None:
            raise InputError(
                f"a picture was given, and the pixel statistics of {name_of(self.model)} are "
                "unknown. Write explain(TorchBlackBox(model, mean=(...), std=(...), size=224), "
                "picture); for a model that takes raw pixels in [0, 1] that is mean=(0, 0, 0), "
                "std=(1, 1, 1)."
            )
        return fit_image(
            picture,
            self.input_size,
            fit=self.fit,
            crop_share=self.crop_share,
            interpolation=self.interpolation,
            channels=len(self.mean),
            fill=self.mean if min(self.mean) >= 0 and max(self.mean) <= 1 else None,
        )

    def without_preprocessing(self) -> "TorchBlackBox":
        """The same model asked in its own space: images are what `model(x)` takes, and pictures are
        no longer accepted.
        """
        black_box = replace(self, mean=None, std=None)
        black_box._facts.update(self._facts)
        return black_box

    def optimized_for(self, images: Images) -> "TorchBlackBox":
        """A frozen copy with batch norms folded, channels_last and a micro-batch that suits the
        device; see `freeze`.
        """
        if self._facts.get("frozen_for") == images.shape[1:]:
            return self
        frozen = optimize(self.model, self._normalize(images[:2]))
        black_box = replace(
            self,
            model=frozen.model,
            max_batch_size=min(frozen.max_batch_size, self.max_batch_size or frozen.max_batch_size),
        )
        black_box._facts.update(self._facts)
        if frozen.model is not self.model:
            black_box._facts["frozen_for"] = images.shape[1:]
            black_box._facts["original"] = self.source_module
        return black_box

    def logits(self, images: Images) -> Logits:
        """Normalise, cast, ask the model in eval mode, read its answer, cast back."""
        normal = self._normalize(images)
        try:
            with restored_rng_state() if "frozen_for" in self._facts else eval_mode(self.model):
                answer = self.model(normal)
        except SaliencyKitError:
            raise
        except Exception as error:
            raise InputError(self._why(error, images)) from error
        logits = read_logits(answer, len(images), self.outputs, name_of(self.model))
        if "num_classes" not in self._facts:
            self._learn(logits)
        return logits.to(images.dtype)

    def _learn(self, logits: Logits) -> None:
        check_names(self.class_names, logits.shape[1], name_of(self.model))
        self._facts["num_classes"] = logits.shape[1]
        if self.outputs == "logits" and look_like_probabilities(logits):
            warnings.warn(
                f"{name_of(self.model)} returned rows that sum to 1: these look like "
                "probabilities, and are read as logits. If it ends in a softmax, write "
                "TorchBlackBox(model, ..., outputs='probabilities').",
                stacklevel=4,
            )

    def _why(self, error: Exception, images: Images) -> str:
        reason = first_line(error)
        text = f"{name_of(self.model)} raised {type(error).__name__} on images of shape {tuple(images.shape)}: {reason}."
        dtype = self._example().dtype
        if dtype in (torch.float16, torch.bfloat16) and (
            "not implemented" in reason or "upported" in reason
        ):
            return f"{text} The model is {dtype} and {self.device} lacks a kernel for that; explain model.float() instead."
        if self.size is not None and images.shape[2:] != self.input_size:
            return f"{text} Its own input size is {self.input_size[0]}x{self.input_size[1]}."
        return text

    def _normalize(self, images: Images) -> Images:
        example = self._example()
        if self.mean is None or self.std is None:
            # a new tensor: a model whose first layer works in place must not touch the caller's
            normal = images * 1
        else:
            if images.shape[1] != len(self.mean):
                raise InputError(
                    f"images have {images.shape[1]} channels, and mean and std of the box "
                    f"{len(self.mean)}; give images of as many, or a box with one number per "
                    "channel."
                )
            mean, std = (
                images.new_tensor(numbers).view(1, -1, 1, 1) for numbers in (self.mean, self.std)
            )
            normal = (images - mean).div_(std)  # in place: one pass over the pixels less
        return normal.to(example.dtype) if example.is_floating_point() else normal

    def _example(self) -> Tensor:
        """A tensor that lives where the model does, in its precision."""
        held = chain(self.model.parameters(), self.model.buffers())
        return next((tensor for tensor in held if tensor.is_floating_point()), torch.empty(0))
