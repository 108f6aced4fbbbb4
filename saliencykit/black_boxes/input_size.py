"""The size of a black box's input: one side, or (height, width)."""

from saliencykit.core.errors import InputError


def check_size(size: int | tuple[int, int] | None, who: str) -> None:
    """Raise InputError unless it is None, a side, or (height, width) in pixels, >= 1."""
    if size is not None and min(height_width(size)) < 1:
        raise InputError(
            f"{who}: size must be a side or (height, width) in pixels, >= 1; got {size!r}."
        )


def height_width(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size that may be one side.

    Example:
        >>> height_width(224)
        (224, 224)
    """
    return (size, size) if isinstance(size, int) else (size[0], size[1])
