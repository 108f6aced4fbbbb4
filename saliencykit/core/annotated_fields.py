"""check_fields: the fields of a dataclass, checked against their annotations."""

import sys
from abc import ABC
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from functools import cache
from types import NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from saliencykit.core.checks import in_interval, name_of
from saliencykit.core.errors import InputError


def check_fields(owner: Any) -> None:
    """Check that the fields of a dataclass are what their annotations say.

    `Annotated[float, "(0, 1]"]` is a number in that interval (square brackets include an end, round
    ones do not), `Annotated[int, "[1, inf)"]` a whole number, a `Literal` one of its values, `bool`
    True or False, and an abstract class such as `Alternative` an object of it. None is allowed
    where it is the default. Other annotations are not checked. Maskers, metrics, terms and
    alternatives call it when they are made; one with a `__post_init__` of its own calls
    `super().__post_init__()`.

    Args:
        owner: The dataclass instance.

    Raises:
        InputError: A field has a value that its annotation does not allow.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Steps:
        ...     lr: Annotated[float, "(0, inf)"] = 0.1
        >>> check_fields(Steps(lr=0.01))
    """
    for name, (fits, expected) in _rules(type(owner)).items():  # type: ignore[arg-type]
        value, default = getattr(owner, name), getattr(type(owner), name, 0)
        if not fits(value) and not (value is default is None):
            raise InputError(f"{name_of(owner)}({name}={value!r}) takes {expected}.")


@cache
def _rules(owner: type) -> dict[str, tuple[Callable[[Any], bool], str]]:
    """By field: whether a value fits, and what is expected."""
    rules = {each.name: _rule(_hint(owner, each), each) for each in fields(owner)}
    return {name: rule for name, rule in rules.items() if rule is not None}


def _hint(owner: type, each: "Field[Any]") -> Any:
    """The annotation of a field; None if it names what is imported for type checkers only."""
    holder = SimpleNamespace(__annotations__={each.name: each.type})
    names = vars(sys.modules[owner.__module__])
    try:
        return get_type_hints(holder, globalns=names, include_extras=True)[each.name]
    except NameError:
        return None


def _rule(hint: Any, field: "Field[Any]") -> tuple[Callable[[Any], bool], str] | None:
    """What the annotation of a field demands; None for nothing."""
    hint, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    union = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = [kind for kind in union if kind is not NoneType]
    if notes and kinds == [int]:
        least = notes[0][1:].partition(",")[0]
        words = f"a whole number >= {least}"
        return lambda v: isinstance(v, int) and in_interval(v, notes[0]), words
    if notes and kinds == [float]:
        return lambda v: in_interval(v, notes[0]), f"a number in {notes[0]}"
    if all(get_origin(kind) is Literal for kind in kinds):
        values = [value for kind in kinds for value in get_args(kind)]
        return lambda v: v in values, " or ".join(map(repr, values))
    if kinds == [bool]:
        return lambda v: isinstance(v, bool), "True or False"
    kind = kinds[0]
    if len(kinds) > 1 or ABC not in getattr(kind, "__mro__", ()):
        return None
    default = field.default if field.default_factory is MISSING else field.default_factory()
    such_as = "" if default in (None, MISSING) else f", such as {default!r}"
    return lambda v: isinstance(v, kind), f"{kind.__name__}{such_as}"
