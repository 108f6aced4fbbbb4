"""Models of other libraries by name: their options, and what is said where one cannot be made."""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from saliencykit.core.errors import InputError
from saliencykit.core.visible_text import first_line


@contextmanager
def making(name: str, download: bool, offline: str) -> Iterator[None]:
    """Raise an InputError where a library cannot make a model, or fetch its weights.

    Args:
        name: The model, such as `timm:resnet18`.
        download: Are its weights fetched?
        offline: What to write without a network.
    """
    try:
        yield
    except Exception as error:
        reason = first_line(error)
        if not download or "pretrained tag" in reason:
            raise InputError(f"{name} could not be made: {reason}.") from error
        raise InputError(
            f"the weights of {name} are not in the cache and could not be downloaded: {reason}. "
            f"Without a network write {offline}."
        ) from error


def near_names(name: str, known: Sequence[str]) -> str:
    """A question after names that are spelled alike; empty if there are none."""
    near = difflib.get_close_matches(name, known, n=3)
    return f" Did you mean {', '.join(near)}?" if near else ""


def given_options(**options: Any) -> dict[str, Any]:
    """The options that are not None.

    Example:
        >>> given_options(size=224, mean=None)
        {'size': 224}
    """
    return {name: value for name, value in options.items() if value is not None}
