"""Docstrings: every example runs, and public objects document parameters, errors, an example and
the source.
"""

import ast
import doctest
import importlib
import inspect
import re
import tempfile
import textwrap
from enum import Enum
from pathlib import Path

import pytest
import torch

import saliencykit
from saliencykit.core import errors
from saliencykit.registry import manager

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "saliencykit").rglob("*.py")
    if path.name != "__main__.py"
)


def has_example(name):
    path = ROOT.joinpath(*name.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ">>> " in file.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def _registry_of_examples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manager, "_registry", manager.Registry())
        yield


@pytest.mark.usefixtures("_registry_of_examples")  # an example may register
@pytest.mark.parametrize("name", [name for name in MODULES if has_example(name)])
def test_the_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # and may write, also temporary files
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    torch.manual_seed(0)
    result = doctest.testmod(
        importlib.import_module(name),
        extraglobs={"torch": torch, "generator": torch.Generator().manual_seed(0)},
        optionflags=doctest.ELLIPSIS,
    )
    assert result.failed == 0


def listed(dotted):
    """The objects that a `:::` line of a reference page shows: one, or all public classes and
    functions of a module.
    """
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            thing = getattr(thing, part)
        break
    if not inspect.ismodule(thing):
        return [thing] if is_code(thing) else []
    return [
        v
        for n, v in vars(thing).items()
        if is_code(v) and not n.startswith("_") and v.__module__ == thing.__name__
    ]


def is_code(thing):
    return inspect.isclass(thing) or inspect.isfunction(thing)


def registered(*kinds):
    names = {kind: manager.registry().names(kind) for kind in kinds}
    return [
        v
        for kind in kinds
        for full, v in names[kind].items()
        if full.startswith("saliencykit/") and is_code(v)
    ]


def by_name(things):
    return {f"{thing.__module__}.{thing.__qualname__}": thing for thing in things}


def sections(thing):
    """The sections of an object's own docstring, by name."""
    text, found, word = (
        inspect.cleandoc(vars(thing).get("__doc__") or "")
        if inspect.isclass(thing)
        else inspect.getdoc(thing),
        {},
        "",
    )
    for line in (text or "").splitlines():
        heading = re.fullmatch(
            r"(Args|Attributes|Returns|Raises|Example|References|Warns|Yields):", line
        )
        word = heading[1] if heading else "" if re.match(r"\S", line) else word
        found[word] = found.get(word, "") + line + "\n"
    return found


def entries(thing, *words):
    """The names with an entry in these sections."""
    return {
        name
        for word in words
        for name in re.findall(r"^    \*{0,2}(\w+):", sections(thing).get(word, ""), re.M)
    }


def parameters(thing):
    """The parameters of a function or constructor; none for an enumeration and for an abstract
    class without a constructor.
    """
    if inspect.isabstract(thing) and "__init__" not in vars(thing):
        return set()
    if inspect.isclass(thing) and issubclass(thing, Enum):
        return set()
    return set(inspect.signature(thing).parameters) - {"self", "cls"}


def raised(function):
    """The errors of this package that a function's own source raises."""
    if function.__code__.co_filename.startswith("<"):
        return set()  # generated: a dataclass's constructor, a hypothesis strategy
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = [
        node.exc.func
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
    ]
    return {call.id for call in calls if isinstance(call, ast.Name)} & ERRORS


def methods(kind):
    """A class's own functions by name, class and static methods too."""
    own = {
        name: getattr(value, "__func__", getattr(value, "fget", value))
        for name, value in vars(kind).items()
    }
    return {name: value for name, value in own.items() if inspect.isfunction(value)}


def is_new(name, kind):
    """Is it a public method that no base class describes?"""
    return not name.startswith("_") and not any(name in vars(base) for base in kind.__mro__[1:])


PAGES = sorted((ROOT / "docs").rglob("*.md"))
SHOWN = [
    thing
    for page in PAGES
    for dotted in re.findall(r"^::: (\S+)", page.read_text(), re.M)
    for thing in listed(dotted)
]
EXPORTED = [thing for name in saliencykit.__all__ if is_code(thing := getattr(saliencykit, name))]
FORMULAS = registered("alternative", "term", "masker", "metric")
REGISTERED = [*FORMULAS, *registered("black_box")]
ERRORS = {name for name in vars(errors) if name.endswith("Error")}
PUBLIC = by_name([*SHOWN, *EXPORTED, *REGISTERED])
SOURCELESS = {"StoredMasks"}  # returns stored masks


def test_every_parameter_is_described():
    assert {
        name: left
        for name, thing in PUBLIC.items()
        if not (inspect.isclass(thing) and issubclass(thing, BaseException))
        and (left := parameters(thing) - entries(thing, "Args", "Attributes"))
    } == {}


def test_every_parameter_of_an_exported_method_is_described():
    assert {
        f"{kind.__name__}.{name}": left
        for kind in EXPORTED
        if inspect.isclass(kind)
        for name, function in methods(kind).items()
        if is_new(name, kind) and (left := parameters(function) - entries(function, "Args"))
    } == {}


def test_every_error_it_raises_is_documented():
    for name, thing in PUBLIC.items():
        said = entries(thing, "Raises")
        assert inspect.isclass(thing) or raised(thing) <= said, name
        for own, function in methods(thing).items() if inspect.isclass(thing) else ():
            if own in ("__init__", "__post_init__") or not own.startswith("_"):
                assert raised(function) <= said | entries(function, "Raises"), (name, own)


def test_exported_and_registered_objects_have_an_example():
    assert [
        name
        for name, thing in by_name([*EXPORTED, *REGISTERED]).items()
        if not (inspect.isclass(thing) and issubclass(thing, Exception))
        and ">>> " not in sections(thing).get("Example", "")
    ] == []


def test_registered_formulas_have_a_reference():
    assert [
        thing.__name__
        for thing in FORMULAS
        if thing.__name__ not in SOURCELESS and not sections(thing).get("References", "").strip()
    ] == []
