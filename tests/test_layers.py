"""The arrows of the architecture, read from the imports: a module imports only from its own level
or from lower ones.
"""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "saliencykit"

LEVELS = {
    "core": 0, "files": 0, "weights_file": 0, "reasons": 0,
    "black_boxes": 1, "alternatives": 1, "terms": 1, "metrics": 1, "maskers": 1, "demo": 1, "images": 1, "around": 1, "stored": 1,
    "hookspecs": 2, "naming": 2, "registry": 2, "builtins": 2,
    "watching": 3, "training": 3, "explaining": 3, "fitting": 3, "evaluation": 3, "evaluating": 3, "data": 3, "video": 3,
    "framing": 3, "cli_video": 4, "terminal_clip": 4,
    "dataset": 3, "explaining_dataset": 3, "cli_dataset": 4,
    "saving": 4, "report": 4, "captum": 4, "terminal": 4, "page": 4, "machine": 3, "new_plugin": 3, "sanity": 3, "surrogate": 3,
    "quantus": 4, "terminal_scores": 4, "cli": 4, "cli_evaluate": 4, "cli_options": 4, "cli_plugins": 4, "cli_sanity": 4,
    "cli_surrogate": 4, "__main__": 4, "testing": 4,
    "": 5,  # saliencykit/__init__.py, the public names
}  # fmt: skip
ROOMS = {room for room, level in LEVELS.items() if level == 1}
NEIGHBOURS = {
    "maskers": {"alternatives", "terms", "stored"},
    "metrics": {"alternatives"},
    "demo": {"black_boxes"},
}
EXCEPTIONS = {
    ("core/explanation.py", "report"), ("core/explanation.py", "saving"), ("core/explanation.py", "page"),
    ("evaluation/scores.py", "page"), ("stored/reading.py", "page"), ("maskers/on_surrogate.py", "registry"),
}  # fmt: skip  # thin methods, imported when they are called
HEAVY = {
    "torchvision", "timm", "captum", "skimage", "PIL", "matplotlib", "scipy", "safetensors", "accelerate", "jinja2", "typer",
    "rich", "hypothesis", "av",
}  # fmt: skip
MAY_BE_HEAVY = {
    "cli.py": {"typer", "rich"},
    "captum/attribution.py": {"captum"},
    "cli_dataset.py": {"typer"},
    "cli_evaluate.py": {"typer"},
    "cli_options.py": {"typer"},
    "cli_video.py": {"typer"},
    "cli_plugins.py": {"typer"},
    "cli_surrogate.py": {"typer"},
    "cli_sanity.py": {"typer"},
    "testing/strategies.py": {"hypothesis"},
}  # nobody imports these by accident

FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def room_of(dotted):
    """`saliencykit.core.rng` -> `core`; `saliencykit` -> ``."""
    return dotted.split(".")[1] if "." in dotted else ""


def imports(name):
    """What a file imports: (dotted module, when it is imported), when being `load`, `call` or
    `types`.
    """

    def walk(node, when):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, when) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{name} line {child.lineno}: imports are absolute"
                inside = (PACKAGE.parent / child.module.replace(".", "/")).is_dir()
                for alias in child.names:
                    deeper = f"{child.module}.{alias.name}"
                    path = PACKAGE.parent / deeper.replace(".", "/")
                    yield (
                        (
                            deeper
                            if inside and (path.is_dir() or path.with_suffix(".py").is_file())
                            else child.module
                        ),
                        when,
                    )
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                yield from walk(child, "types" if when == "types" else "call")
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                yield from walk(child, "types")
            else:
                yield from walk(child, when)

    yield from walk(ast.parse((PACKAGE / name).read_text(encoding="utf-8")), "load")


def own_room(name):
    return name.split("/")[0] if "/" in name else name.removesuffix(".py").replace("__init__", "")


@pytest.mark.parametrize("name", FILES)
def test_no_arrow_points_up(name):
    mine = own_room(name)
    assert mine in LEVELS, f"{name} has no level yet: give it one in {Path(__file__).name}"
    for module, when in imports(name):
        if module.split(".")[0] != "saliencykit":
            continue
        other = room_of(module)
        if mine == other:
            continue
        if (name, other) in EXCEPTIONS:
            assert when == "call", f"{name} imports {module} when it is loaded"
            continue
        if other == "":
            assert LEVELS[mine] >= 3, f"{name} imports the public names; import from where they are"
            continue
        assert LEVELS[other] <= LEVELS[mine], (
            f"{name} (level {LEVELS[mine]}) imports {module} (level {LEVELS[other]})"
        )
        if mine in ROOMS and other in ROOMS:
            assert other in NEIGHBOURS.get(mine, ()), (
                f"{name} imports {module}: no room knows another"
            )


@pytest.mark.parametrize("name", FILES)
def test_heavy_packages_are_imported_where_they_are_used(name):
    loaded = {module.split(".")[0] for module, when in imports(name) if when == "load"}
    assert not (loaded & HEAVY) - MAY_BE_HEAVY.get(name, set())


def test_the_rooms_are_loaded_by_our_plugin_only_when_asked():
    assert not [m for m, when in imports("builtins.py") if when == "load" and room_of(m) in ROOMS]


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("core/")])
def test_core_needs_torch_and_numpy_only(name):
    import sys

    outside = {module.split(".")[0] for module, when in imports(name) if when != "types"}
    assert (
        outside - set(sys.stdlib_module_names) - {"torch", "numpy", "saliencykit"}
        <= {"PIL"} & outside
    )
    loaded = {module.split(".")[0] for module, when in imports(name) if when == "load"}
    assert loaded - set(sys.stdlib_module_names) <= {"torch", "numpy", "saliencykit"}


def lines_of_code(name):
    """Lines that hold code: no blank lines, comments or docstrings."""
    source = (PACKAGE / name).read_text(encoding="utf-8")
    tree = ast.parse(source)
    words = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for child in body if isinstance(body, list) else []:
            if (
                isinstance(child, ast.Expr)
                and isinstance(child.value, ast.Constant)
                and isinstance(child.value.value, str)
            ):
                words.update(range(child.lineno, child.end_lineno + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(
        1
        for number, line in lines
        if line.strip() and not line.strip().startswith("#") and number not in words
    )


@pytest.mark.parametrize(
    "name", [name for name in FILES if name not in ("__main__.py", "core/errors.py")]
)
def test_a_public_class_is_abstract_or_final(name):
    module = importlib.import_module(
        f"saliencykit.{name.removesuffix('.py').replace('/', '.')}".removesuffix(".__init__")
    )
    own = [
        thing
        for thing in vars(module).values()
        if inspect.isclass(thing) and thing.__module__ == module.__name__
    ]
    public = [
        kind
        for kind in own
        if not kind.__name__.startswith("_") and not getattr(kind, "_is_protocol", False)
    ]
    assert [
        kind for kind in public if not (inspect.isabstract(kind) or vars(kind).get("__final__"))
    ] == []


def test_the_page_on_the_architecture_names_every_file():
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    said = set(re.findall(r"\b(\w+\.py)\b", page)) - {"utils.py"}
    known = {path.name for folder in (PACKAGE, ROOT / "tests") for path in folder.rglob("*.py")}
    assert said - known == set()
    assert {Path(name).name for name in FILES if not name.endswith("__init__.py")} - said == set()


def test_core_is_read_within_an_hour():
    names = [name for name in FILES if name.startswith("core/")]
    code, lines = (
        sum(map(lines_of_code, names)),
        sum(len((PACKAGE / name).read_text().splitlines()) for name in names),
    )
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    said = [
        int(number.replace(",", ""))
        for number in re.findall(r"([\d,]+) lines of code, ([\d,]+)", page)[0]
    ]
    assert (code, lines) == (pytest.approx(said[0], abs=20), pytest.approx(said[1], abs=50)), (
        "the page on the architecture says so"
    )
    assert code <= 600
    assert lines <= 1500  # 25 lines a minute


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_one_idea(name):
    assert lines_of_code(name) <= 250
    assert Path(name).stem not in ("utils", "util", "helpers", "helper", "common", "misc"), (
        "what has no room has no name yet"
    )
