"""What a torch function does to a rectangle of its maps: the kinds of rules."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from torch import Tensor, fx


@final
@dataclass(frozen=True)
class AxisLayout:
    """The axes of a 4-D tensor: `rows` is that of its rows, columns come next, channels are the
    other one. 2 is NCHW, 1 is NHWC.
    """

    rows: int

    @property
    def channels(self) -> int:
        """The axis of the channels."""
        return 3 if self.rows == 1 else 1

    def size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of a tensor of this shape."""
        return shape[self.rows], shape[self.rows + 1]


NCHW, NHWC = AxisLayout(2), AxisLayout(1)


@final
@dataclass(frozen=True)
class Pointwise:
    """A call that can be made on any rectangle of its maps, if it is the same one for all maps."""

    sources: tuple[fx.Node, ...]
    layout: AxisLayout


@final
@dataclass(frozen=True, eq=False)
class Sliding:
    """A call whose output at a position depends on a small rectangle (a kernel) of its map.

    Attributes:
        source: The map.
        extent: Height and width of the kernel, dilation included.
        stride: Down and across.
        padding: Rows above and columns left of the map where a kernel may begin.
        pad_lowest: Is the padding -inf, and not 0?
        on_patch: The call on a patch that has all it needs: without padding.
        divisor: What the output is still to be divided by at each position, (h, w); or None.
    """

    source: fx.Node
    extent: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    pad_lowest: bool
    on_patch: Callable[[Tensor], Tensor]
    divisor: Tensor | None = None

    @property
    def layout(self) -> AxisLayout:
        """Of the output."""
        return NCHW

    @property
    def keeps_positions(self) -> bool:
        """Does each position depend on the same position of the map only?"""
        return (
            self.extent == (1, 1)
            and self.stride == (1, 1)
            and self.padding == (0, 0)
            and self.divisor is None
        )


@final
@dataclass(frozen=True)
class Mean:
    """The mean over all positions; what follows is cheap."""

    source: fx.Node


PropagationRule = Pointwise | Sliding | Mean
