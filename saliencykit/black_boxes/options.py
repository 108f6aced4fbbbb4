"""The options that black boxes share, and their checks."""

from collections.abc import Sequence
from typing import Any

from saliencykit.core.errors import InputError


def check_choices(options: object, who: str, **choices: Sequence[object]) -> None:
    """Raise InputError unless each option is one of its choices.

    Args:
        options: The object with the options as attributes.
        who: Starts the message.
        choices: By the name of the option.

    Example:
        >>> from types import SimpleNamespace
        >>> check_choices(SimpleNamespace(fit="crop"), "Mine", fit=("crop", "pad"))
    """
    for name, known in choices.items():
        value = getattr(options, name)
        if value not in known:
            words = ", ".join(map(str, known))
            raise InputError(f"{who}: {name} must be one of {words}; got {value!r}.")


def check_max_batch_size(value: object, who: str) -> None:
    """Raise InputError unless it is None or a whole number >= 1."""
    if value is not None and (not isinstance(value, int) or value < 1):
        raise InputError(f"{who}: max_batch_size must be >= 1 or None; got {value!r}.")


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
