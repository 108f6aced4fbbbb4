"""InputShape: what a model file or a server declares of its input's shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

from saliencykit.black_boxes.input_size import height_width
from saliencykit.core.checks import one_of
from saliencykit.core.errors import InputError

Layout = Literal["NCHW", "NHWC"]
LAYOUTS = ("NCHW", "NHWC")


@final
@dataclass(frozen=True)
class InputShape:
    """The declared batch size, channels, height and width of an input; None where it is free."""

    batch_size: int | None
    layout: Layout
    channels: int | None
    height: int | None
    width: int | None

    def size(self, given: int | tuple[int, int] | None) -> int | tuple[int, int] | None:
        """The input size: as declared, and as `given` where that leaves it open.

        Raises:
            InputError: They contradict each other.
        """
        height, width = (None, None) if given is None else height_width(given)
        for declared, wanted in ((self.height, height), (self.width, width)):
            if declared is not None and wanted is not None and declared != wanted:
                raise InputError(
                    f"size={given!r} was given and the model takes {self.height} x {self.width} "
                    "(height x width)."
                )
        height, width = self.height or height, self.width or width
        return None if height is None or width is None else (height, width)


def read_input_shape(shape: Sequence[object], layout: Layout | None = None) -> InputShape:
    """Read a declared input shape of four axes; what is not a number >= 1 (a name, -1) is free.

    Args:
        shape: As the file or server declares it, with the batch first.
        layout: `NCHW` or `NHWC`. None: channels are where a 1 or 3 is, and second if that does not
            tell.

    Raises:
        InputError: There are not four axes, or the layout is something else.

    Example:
        >>> read_input_shape(["batch", 224, 224, 3])
        InputShape(batch_size=None, layout='NHWC', channels=3, height=224, width=224)
    """
    one_of("read_input_shape", (None, *LAYOUTS), layout=layout)
    if len(shape) != 4:
        raise InputError(
            f"images have four axes, NCHW or NHWC; the model takes the shape {list(shape)}."
        )
    batch_size, *rest = (
        v if isinstance(v, int) and not isinstance(v, bool) and v >= 1 else None for v in shape
    )
    channels_last = layout == "NHWC" if layout else rest[2] in (1, 3) and rest[0] not in (1, 3)
    if channels_last:
        return InputShape(batch_size, "NHWC", rest[2], rest[0], rest[1])
    return InputShape(batch_size, "NCHW", rest[0], rest[1], rest[2])
