"""TorchBlackBox: any torch module as a black box."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, final

import torch
from torch import Tensor, nn

from saliencykit.black_boxes.frozen import comfortable_batch, frozen_copy
from saliencykit.black_boxes.outputs import Outputs, look_like_probabilities, read_logits
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.geometry import Geometry
from saliencykit.core.types import Images, Logits

if TYPE_CHECKING:
    from PIL.Image import Image

Fit = Literal["crop", "squash", "pad"]


@final
@dataclass(frozen=True, eq=False)
class TorchBlackBox(BlackBox):
    """Any torch module that classifies images, borrowed and given back as it was.

    The model runs in eval mode (its own flags are put back after every call), in its own dtype and on its own device. It may return a
    tensor, a tuple that starts with the logits, a dict, or an object with `.logits`; a single output is read as a sigmoid's, as
    two classes. Only `mean` and `std` together with `size` let it take pictures; tensors need nothing.

    Args:
        model: The module; weights, modes, gradients and hooks are left alone.
        mean: Subtracted per channel, in the units of raw pixels in [0, 1]. None: the model normalises by itself.
        std: Divided by per channel, > 0. None: with `mean`.
        size: Side or (height, width) of the input in pixels, for pictures.
        fit: How a picture is brought to `size`: `crop` (short side, then the centre), `squash` (both sides) or `pad` (long side,
            the rest grey).
        crop_share: With `crop`: the share of the resized short side that is kept, in (0, 1]; 224 of 256 is 0.875.
        interpolation: `bilinear`, `bicubic`, `nearest` or `lanczos`, with antialiasing.
        outputs: `logits`, or `probabilities` if the model ends in a softmax or sigmoid.
        class_names: One name per class.
        max_batch: The largest batch the model gets at once. None: no limit.

    Raises:
        InputError: Only one of mean and std is given, they differ in length, or a number is out of range.

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
    max_batch: int | None = None
    _facts: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    differentiable = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not isinstance(self.model, nn.Module):
            raise InputError(f"TorchBlackBox takes a torch nn.Module; got {name_of(self.model)}.")
        if (self.mean is None) != (self.std is None) or (self.mean and self.std and len(self.mean) != len(self.std)):
            raise InputError(f"TorchBlackBox takes mean and std together, one number per channel; got {self.mean} and {self.std}.")
        if self.std is not None and min(self.std) <= 0:
            raise InputError(f"TorchBlackBox: std is > 0 in every channel; got {tuple(self.std)}.")
        if not 0 < self.crop_share <= 1:
            raise InputError(f"TorchBlackBox: crop_share is in (0, 1]; got {self.crop_share}.")

    def __repr__(self) -> str:
        """The configuration, without the model's layers."""
        stats = "" if self.mean is None else f", mean={tuple(self.mean)}, std={tuple(self.std or ())}"
        return f"TorchBlackBox({name_of(self.model)}{stats}, size={self.size}, outputs={self.outputs!r})"

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """K, known after the first answer; before it, the model is asked about one grey image of `size`."""
        if "num_classes" not in self._facts:
            if self.size is None:
                raise InputError(f"TorchBlackBox({name_of(self.model)}) has not answered yet; ask it once, or give size=.")
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
    def zero(self) -> tuple[float, ...] | None:  # type: ignore[override]
        """The raw colour that normalising maps to 0: the mean."""
        return None if self.mean is None else tuple(self.mean)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels.

        Raises:
            InputError: `size` is not known.
        """
        if self.size is None:
            raise InputError(f"the input size of {name_of(self.model)} is unknown; write TorchBlackBox(model, ..., size=224).")
        return (self.size, self.size) if isinstance(self.size, int) else (self.size[0], self.size[1])

    def prepare(self, picture: "Image") -> tuple[Images, Geometry]:
        """Resize and crop a picture as `size`, `fit` and `crop_share` say; see `BlackBox.prepare`."""
        from saliencykit.black_boxes.preparing import fit_picture

        if self.mean is None:
            raise InputError(
                f"a picture was given, and the pixel statistics of {name_of(self.model)} are unknown. Write "
                f"explain(TorchBlackBox(model, mean=(...), std=(...), size=224), picture); for a model that takes raw pixels in "
                "[0, 1] that is mean=(0, 0, 0), std=(1, 1, 1)."
            )
        return fit_picture(
            picture,
            self.input_size,
            fit=self.fit,
            crop_share=self.crop_share,
            interpolation=self.interpolation,
            channels=len(self.mean),
        )

    def for_many(self, images: Images) -> BlackBox:
        """A frozen copy with batch norms folded, channels_last and a micro-batch that suits the device; itself where that fails."""
        copy = frozen_copy(self.model, self._normalise(images[:1]))
        batch = self.max_batch or comfortable_batch(copy or self.model, self._normalise(images[:1]))
        box = replace(self, model=copy or self.model, max_batch=batch)
        box._facts.update(self._facts)
        return box

    def logits(self, images: Images) -> Logits:
        """Normalise, cast, ask the model in eval mode, read its answer, cast back."""
        with _eval_mode(self.model):
            answer = self.model(self._normalise(images))
        logits = read_logits(answer, self.outputs, name_of(self.model))
        if "num_classes" not in self._facts and logits.ndim == 2:
            self._facts["num_classes"] = logits.shape[1]
            if self.outputs == "logits" and look_like_probabilities(logits):
                warnings.warn(
                    f"{name_of(self.model)} returned rows that sum to 1: these look like probabilities, and are read as logits. "
                    "If it ends in a softmax, write TorchBlackBox(model, ..., outputs='probabilities').",
                    stacklevel=2,
                )
        return logits.to(images.dtype)

    def _normalise(self, images: Images) -> Images:
        example = self._example()
        if self.mean is None or self.std is None:
            normal = images * 1  # a new tensor: a model whose first layer works in place must not touch the caller's
        else:
            if images.shape[1] != len(self.mean):
                raise InputError(f"images have {images.shape[1]} channels, and mean and std of the box {len(self.mean)}.")
            std = images.new_tensor(self.std).view(1, -1, 1, 1)
            normal = (images - images.new_tensor(self.mean).view(1, -1, 1, 1)) / std
        return normal.to(example.dtype) if example.is_floating_point() else normal

    def _example(self) -> Tensor:
        for tensor in self.model.parameters():
            return tensor
        for tensor in self.model.buffers():
            if tensor.is_floating_point():
                return tensor
        return torch.empty(0)


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
