"""FunctionBlackBox: any Python function on numpy arrays as a black box that can only be queried."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
import torch

from saliencykit.black_boxes.class_names import check_names
from saliencykit.black_boxes.outputs import OUTPUTS, Outputs, read_logits
from saliencykit.black_boxes.preprocessing import FITS, INTERPOLATIONS, Fit, fit_image
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import first_line, name_of
from saliencykit.core.errors import ContractError, InputError, SaliencyKitError
from saliencykit.core.geometry import Geometry
from saliencykit.core.types import Images, Logits

if TYPE_CHECKING:
    from PIL.Image import Image


@final
class _NumClasses:
    """The field `num_classes`: None until the first answer, and an error for who asks before it."""

    def __get__(self, black_box: "FunctionBlackBox | None", owner: type) -> int:
        if black_box is None:
            return None  # type: ignore[return-value]  # the dataclass takes this as the field's default
        if "num_classes" not in black_box.__dict__ and black_box.size is not None:
            height, width = black_box.input_size
            black_box.logits(torch.full((1, black_box.channels, height, width), 0.5))
        if "num_classes" not in black_box.__dict__:
            raise InputError(
                f"{black_box!r} has not answered yet; ask it once, or give num_classes= or size=."
            )
        return int(black_box.__dict__["num_classes"])

    def __set__(self, black_box: "FunctionBlackBox", value: int | None) -> None:
        if value is not None:
            black_box.__dict__["num_classes"] = value


@final
@dataclass(frozen=True, eq=False)
class FunctionBlackBox(BlackBox):
    """Any Python function from a batch of pictures to class scores: another framework, a web
    service, a pipeline.

    It is asked and never differentiated, so it needs a masker that only queries (`rise`,
    `occlusion`). The function gets a numpy array (B, height, width, channels) of its own, RGB,
    float32 raw pixels in [0, 1] (or uint8 in 0..255), and answers with (B, K).

    Args:
        function: `numpy (B, H, W, C) -> (B, K)`; a list of rows or a torch tensor will do. One
            column is a sigmoid's: two classes.
        num_classes: K, >= 2. None: found at the first answer.
        size: Side or (height, width) that pictures are brought to, in pixels. None: pictures keep
            their own size.
        outputs: `probabilities` in [0, 1], or `logits`.
        class_names: One name per class.
        max_batch_size: The largest batch that the function gets at once, >= 1.
        dtype: `float32` in [0, 1], or `uint8` in 0..255, rounded.
        channels: Of pictures: 3 (RGB) or 1 (grey).
        fit: How a picture is brought to `size`: `crop`, `squash` or `pad`.
        interpolation: Of the resizing, see `fit_image`.

    Raises:
        InputError: Not a function, or an option is out of range.

    Example:
        >>> def brightness(pictures):
        ...     light = pictures.mean((1, 2, 3))
        ...     return np.stack([light, 1 - light], 1)
        >>> FunctionBlackBox(brightness)(torch.ones(1, 3, 8, 8)).exp().round(decimals=3).tolist()
        [[1.0, 0.0]]
    """

    function: Callable[[Any], Any]
    num_classes: int = _NumClasses()  # type: ignore[assignment]
    size: int | tuple[int, int] | None = None
    outputs: Outputs = "probabilities"
    class_names: Sequence[str] | None = field(default=None, repr=False)
    max_batch_size: int | None = 32
    dtype: Literal["float32", "uint8"] = "float32"
    channels: int = 3
    fit: Fit = "squash"
    interpolation: str = "bilinear"

    differentiable = False

    def __post_init__(self) -> None:
        """Check the options."""
        who = "FunctionBlackBox"
        if not callable(self.function) or isinstance(self.function, type):
            raise InputError(
                f"{who} takes a function from numpy (B, H, W, C) to (B, K); got "
                f"{name_of(self.function)}."
            )
        known = self.__dict__.get("num_classes")
        if known is not None and known < 2:
            raise InputError(
                f"{who}: num_classes is >= 2 (a sigmoid has two, yes and no); got {known}."
            )
        if known is not None:
            check_names(self.class_names, known, who)
        if self.size is not None and min(self.input_size) < 1:
            raise InputError(f"{who}: size is a side or (height, width), >= 1; got {self.size}.")
        if self.max_batch_size is not None and self.max_batch_size < 1:
            raise InputError(f"{who}: max_batch_size is >= 1 or None; got {self.max_batch_size}.")
        words = {
            "outputs": OUTPUTS,
            "fit": FITS,
            "interpolation": INTERPOLATIONS,
            "dtype": ("float32", "uint8"),
            "channels": (1, 3),
        }
        for name, choices in words.items():
            if getattr(self, name) not in choices:
                raise InputError(
                    f"{who}: {name} is one of {', '.join(map(str, choices))}; got "
                    f"{getattr(self, name)!r}."
                )

    def __repr__(self) -> str:
        """The configuration."""
        return f"FunctionBlackBox({self._name}, size={self.size}, outputs={self.outputs!r}, dtype={self.dtype!r})"

    @property
    def _name(self) -> str:
        return str(getattr(self.function, "__name__", name_of(self.function)))

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width that pictures are brought to.

        Raises:
            InputError: `size` is not given.
        """
        if self.size is None:
            raise InputError(
                f"the input size of {self._name} is not known; write FunctionBlackBox(function, "
                "size=224)."
            )
        return (
            (self.size, self.size) if isinstance(self.size, int) else (self.size[0], self.size[1])
        )

    def prepare(self, picture: "Image") -> tuple[Images, Geometry]:
        """The picture brought to `size`, or at its own size; see `BlackBox.prepare`."""
        size = (picture.height, picture.width) if self.size is None else self.input_size
        return fit_image(
            picture, size, fit=self.fit, interpolation=self.interpolation, channels=self.channels
        )

    def logits(self, images: Images) -> Logits:
        """Ask the function."""
        pictures = (
            images.detach()
            .permute(0, 2, 3, 1)
            .to("cpu", torch.float32)
            .numpy(force=True)
            .copy(order="C")
        )
        if self.dtype == "uint8":
            pictures = np.rint(pictures.clip(0, 1) * 255).astype(np.uint8)
        try:
            answer = self.function(pictures)
        except SaliencyKitError:
            raise
        except Exception as error:
            raise InputError(
                f"{self._name} raised {name_of(error)} on a numpy array {pictures.shape} of "
                f"{self.dtype}: {first_line(error)}. It is called with pictures (B, H, W, C); a "
                "function of torch tensors is explained as an nn.Module."
            ) from error
        logits = read_logits(self._as_tensor(answer), len(images), self.outputs, self._name)
        if "num_classes" not in self.__dict__:
            check_names(self.class_names, logits.shape[1], repr(self))
            self.__dict__["num_classes"] = logits.shape[1]
        return logits.to(images.device, images.dtype)

    def _as_tensor(self, answer: Any) -> torch.Tensor:
        if isinstance(answer, torch.Tensor):
            return answer.detach()
        try:
            if answer is None:
                raise TypeError("a return is missing")
            values = np.asarray(answer, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ContractError(
                f"{self._name} returned {name_of(answer)}, which is not an array (B, K) of "
                f"numbers: {error}."
            ) from error
        return torch.from_numpy(values)
