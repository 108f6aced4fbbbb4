"""The one text form of names with arguments: `name`, `name:value`, `name:key=value,key=value`.

A value may be a name with arguments itself, `iterative:alternative=blur:sigma=3,steps=50`; in
brackets if it has several, `iterative:alternative=(noise:spread=0.1,std=0.2),steps=50`; joined by
`+` for several, `choice:alternatives=blur:sigma=3+noise` or `grad-cam:scales=1+1.4+2`.
"""

import ast
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from saliencykit.core.checks import reason_of
from saliencykit.core.errors import InputError, RegistryError, SaliencyKitError


@final
@dataclass(frozen=True)
class Spec:
    """A parsed text: the name, positional values and options."""

    name: str
    values: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)


def parse(text: str) -> Spec:
    """Read a text like `timm:resnet18,checkpoint=my.safetensors`.

    Args:
        text: `name`, `name:value` or `name:key=value,key=value`.

    Raises:
        InputError: The text is empty or malformed.

    Example:
        >>> parse("blur:sigma=11")
        Spec(name='blur', values=(), options={'sigma': '11'})
    """
    name, colon, arguments = text.strip().partition(":")
    if not name or (colon and not arguments):
        raise InputError(
            f"{text!r} is not a name; write 'name', 'name:value' or 'name:key=value,key=value'."
        )
    values: list[str] = []
    options: dict[str, str] = {}
    for part in _split(arguments, ",") if arguments else []:
        key, equals, value = part.partition("=")
        if equals and key.strip().isidentifier():
            if key.strip() in options:
                raise InputError(f"{text!r} gives {key.strip()!r} twice; write it once.")
            options[key.strip()] = value.strip()
        elif options:
            raise InputError(f"{text!r}: {part!r} comes after an option; write plain values first.")
        else:
            values.append(part.strip())
    return Spec(name, tuple(values), options)


def build(
    spec: Spec, factory: Callable[..., Any], makers: Mapping[type, Callable[[str], Any]]
) -> Any:
    """Call a factory with the arguments of a text; numbers, tuples and booleans are parsed.

    Args:
        spec: The parsed text, with the full name.
        factory: The factory behind the name.
        makers: How to read an argument annotated with one of these types.

    Raises:
        InputError: The arguments do not fit the factory.
        RegistryError: The factory could not import what it needs.
    """
    try:
        signature = inspect.signature(factory)
        hints = typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    except (TypeError, ValueError, NameError):
        signature, hints = inspect.Signature(), {}
    known = [p for p in signature.parameters.values() if p.name != "self"]
    plain = [p.name for p in known if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    only = [p.name for p in known if p.kind == p.KEYWORD_ONLY]
    options, values = dict(spec.options), list(spec.values)
    if values and not plain:  # `blur:11` means the first option of a keyword-only dataclass
        options = {**dict(zip(only, values, strict=False)), **options}
        values = values[len(only) :]
    listed = f"its options are {', '.join([*plain, *only]) or 'none'}."
    unknown = [key for key in options if key not in {*plain, *only}]
    if len(values) > len(plain) and not unknown:
        raise InputError(f"{spec.name} takes at most {len(plain)} values; {listed}")
    if unknown and not any(p.kind == p.VAR_KEYWORD for p in known):
        raise InputError(f"{spec.name} has no option {unknown[0]!r}; {listed}")
    given = {*plain[: len(values)], *options}
    needed = [
        p.name
        for p in known
        if p.default is p.empty and p.name in {*plain, *only} and p.name not in given
    ]
    if needed:
        raise InputError(
            f"{spec.name} needs {', '.join(needed)}; write '{spec.name}:{needed[0]}=...'; {listed}"
        )
    positional = [_read(v, hints.get(n), makers) for v, n in zip(values, plain, strict=False)]
    named = {key: _read(value, hints.get(key), makers) for key, value in options.items()}
    try:
        return factory(*positional, **named)
    except SaliencyKitError:
        raise
    except ImportError as error:
        raise RegistryError(
            f"{spec.name} needs a package that is not installed: {error}."
        ) from error
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{spec.name} could not be created from {dict(options)} {values}: {reason_of(error)}"
        ) from error


def _split(text: str, mark: str) -> list[str]:
    """Split at marks outside of brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth = max(0, depth + (letter in "([") - (letter in ")]"))
        if letter == mark and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _bare(text: str) -> str:
    """Strip brackets around a part with several options: `(noise:spread=0.1,std=0.2)`."""
    text = text.strip()
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text


def _read(value: str, hint: Any, makers: Mapping[type, Callable[[str], Any]]) -> Any:
    kinds = {hint, *typing.get_args(hint)}
    for kind, make in makers.items():
        if kind in kinds:
            parts = _split(value, "+") if typing.get_origin(hint) is tuple else [value]
            made = tuple(make(_bare(part)) for part in parts)
            return made if typing.get_origin(hint) is tuple else made[0]
    for kind in kinds:
        if typing.get_origin(kind) is Sequence and "+" in value:
            (item,) = typing.get_args(kind)
            return tuple(_read(part, item, makers) for part in value.split("+"))
    if str in kinds and not kinds & {int, float, bool}:
        return None if value.lower() == "none" and type(None) in kinds else value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False, "none": None}.get(value.lower(), value)
