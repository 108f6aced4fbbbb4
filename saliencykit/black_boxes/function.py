"""FunctionBlackBox: any Python function on numpy arrays as a black box that can only be queried."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, final

import numpy as np
import torch
from PIL.Image import Image

from saliencykit.black_boxes.class_names import check_class_names
from saliencykit.black_boxes.input_size import check_size, height_width
from saliencykit.black_boxes.model_output import read_logits, warn_of_misreading
from saliencykit.black_boxes.preprocessing import Fit, Interpolation, fit_image
from saliencykit.core.annotated_fields import check_fields
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import ContractError, InputError, SaliencyKitError
from saliencykit.core.geometry import Geometry
from saliencykit.core.output import Output
from saliencykit.core.types import Images, Logits
from saliencykit.core.visible_text import first_line


@final
class _NumClasses:
    """The field `num_classes`: None until the first query; reading it before is an error."""

    def __get__(self, black_box: "FunctionBlackBox | None", owner: type) -> int:
        if black_box is None:
            return None  # type: ignore[return-value]  # the dataclass takes it as the default
        if "num_classes" not in black_box.__dict__ and black_box.size is not None:
            shape = (1, black_box.channels, *black_box.input_size)
            black_box.logits(torch.full(shape, 0.5, dtype=torch.float32, device="cpu"))
        if "num_classes" not in black_box.__dict__:
            raise InputError(
                f"the number of classes of {black_box!r} is not known yet; query it once, or give "
                "num_classes= or size=."
            )
        return int(black_box.__dict__["num_classes"])

    def __set__(self, black_box: "FunctionBlackBox", value: int | None) -> None:
        if value is not None:
            black_box.__dict__["num_classes"] = value


@final
@dataclass(frozen=True, eq=False)
class FunctionBlackBox(BlackBox):
    """Any Python function from a batch of images to class scores: another framework, a web service,
    a pipeline.

    It has no gradients, so it needs a masker that only queries (`rise`, `occlusion`). The function
    gets a numpy array (B, height, width, channels) of its own, RGB, float32 raw pixels in [0, 1]
    (or uint8 in 0..255), and returns (B, K).

    Args:
        function: `numpy (B, H, W, C) -> (B, K)`; a list of rows or a torch tensor will do. One
            column is read as a sigmoid's: two classes.
        num_classes: K, >= 2. None: read from the first output.
        size: Side or (height, width) that images are resized to, in pixels. None: images keep their
            own size.
        output: What a column means: `softmax` (an exclusive class), `sigmoid` (a label on its own:
            multi-label) or `score` (a number without a scale: regression, similarity).
        probabilities: The function returns values in [0, 1]; False: logits. A score is taken as it
            is.
        class_names: One name per class.
        max_batch_size: The largest batch that the function gets, >= 1. None: no limit.
        dtype: `float32` in [0, 1], or `uint8` in 0..255, rounded.
        channels: 3 (RGB) or 1 (gray); any other number for arrays and tensors only.
        fit: How an image is resized to `size`: `crop`, `squash` or `pad`.
        interpolation: Of the resizing, see `fit_image`.

    Raises:
        InputError: Not a function, or an option is out of range.

    Example:
        >>> def brightness(images):
        ...     light = images.mean((1, 2, 3))
        ...     return np.stack([light, 1 - light], 1)
        >>> FunctionBlackBox(brightness)(torch.ones(1, 3, 8, 8)).exp().round(decimals=3).tolist()
        [[1.0, 0.0]]
    """

    function: Callable[[Any], Any]
    num_classes: int = _NumClasses()  # type: ignore[assignment]
    size: int | tuple[int, int] | None = None
    output: Output = "softmax"
    probabilities: bool = True
    class_names: Sequence[str] | None = field(default=None, repr=False)
    max_batch_size: Annotated[int | None, "[1, inf)"] = 32
    dtype: Literal["float32", "uint8"] = "float32"
    channels: Annotated[int, "[1, inf)"] = 3
    fit: Fit = "squash"
    interpolation: Interpolation = "bilinear"

    differentiable = False

    def __post_init__(self) -> None:
        """Check the options."""
        who = "FunctionBlackBox"
        if not callable(self.function) or isinstance(self.function, type):
            raise InputError(
                f"{who} takes a function from numpy (B, H, W, C) to (B, K); got "
                f"{name_of(self.function)}."
            )
        if (num_classes := self.__dict__.get("num_classes")) is not None:
            least = 1 if self.output == "score" else 2
            if num_classes < least:
                raise InputError(
                    f"{who}: num_classes must be >= {least} (a sigmoid has two classes, a score "
                    f"may be one); got {num_classes}."
                )
            check_class_names(self.class_names, num_classes, who)
        check_size(self.size, who)
        check_fields(self)

    def __repr__(self) -> str:
        """The configuration."""
        options = f"size={self.size}, output={self.output!r}, dtype={self.dtype!r}"
        return f"FunctionBlackBox({self._name}, {options})"

    @property
    def _name(self) -> str:
        return str(getattr(self.function, "__name__", name_of(self.function)))

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width that images are resized to.

        Raises:
            InputError: `size` is not given.
        """
        if self.size is None:
            raise InputError(
                f"the input size of {self._name} is not known; write FunctionBlackBox(function, "
                "size=224)."
            )
        return height_width(self.size)

    def prepare(self, image: Image) -> tuple[Images, Geometry]:
        """The image resized to `size`, or at its own size; see `BlackBox.prepare`."""
        size = (image.height, image.width) if self.size is None else self.input_size
        options = {"interpolation": self.interpolation, "channels": self.channels}
        return fit_image(image, size, fit=self.fit, **options)  # type: ignore[arg-type]

    def logits(self, images: Images) -> Logits:
        """Call the function."""
        pixels = images.detach().permute(0, 2, 3, 1).to("cpu", torch.float32)
        array: Any = pixels.numpy(force=True).copy(order="C")
        if self.dtype == "uint8":
            array = np.rint(array.clip(0, 1) * 255).astype(np.uint8)
        try:
            output = self.function(array)
        except SaliencyKitError:
            raise
        except Exception as error:
            raise InputError(
                f"{self._name} raised {name_of(error)} on a numpy array {array.shape} of "
                f"{self.dtype}: {first_line(error)}. It is called with images (B, H, W, C); a "
                "function of torch tensors is explained as an nn.Module."
            ) from error
        logits = read_logits(
            self._as_tensor(output), len(images), self._name, self.output, self.probabilities
        )
        if "num_classes" not in self.__dict__:
            check_class_names(self.class_names, logits.shape[1], repr(self))
            self.__dict__["num_classes"] = logits.shape[1]
        if "checked" not in self.__dict__:
            self.__dict__["checked"] = True
            warn_of_misreading(logits, self._name, self.output, self.probabilities)
        return logits.to(images.device, images.dtype)

    def _as_tensor(self, output: Any) -> torch.Tensor:
        if isinstance(output, torch.Tensor):
            return output.detach()
        try:
            if output is None:
                raise TypeError("a return is missing")
            values = np.asarray(output, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ContractError(
                f"{self._name} returned {name_of(output)}, which is not an array (B, K) of "
                f"numbers: {error}."
            ) from error
        return torch.from_numpy(values)
