"""The options that black boxes share, and their checks."""

from typing import Any

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


def given_options(**options: Any) -> dict[str, Any]:
    """The options that are not None.

    Example:
        >>> given_options(size=224, mean=None)
        {'size': 224}
    """
    return {name: value for name, value in options.items() if value is not None}
