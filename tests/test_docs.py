"""The docs are true: every Python block runs, every name has a place, every link leads somewhere."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from saliencykit import hookspecs
from saliencykit.core import errors
from saliencykit.registry import KINDS, registry

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SLOW = "<!-- slow: "  # a page that says so (and how slow) runs under -m slow; the quick tests look at its imports and options only


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def with_blocks() -> list[object]:
    pages = [page for page in PAGES if BLOCK.search(page.read_text())]
    return [pytest.param(page, id=name_of(page), marks=[pytest.mark.slow] * (SLOW in page.read_text())) for page in pages]


@pytest.mark.parametrize("page", with_blocks())
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": "page"}
    for block in BLOCK.findall(page.read_text()):
        exec(compile(block, name_of(page), "exec"), scope)


def test_slow_pages_are_looked_at_in_the_quick_tests_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = [page for page in PAGES if SLOW in page.read_text()]
    assert [name_of(page) for page in slow] == ["docs/tutorials/train-a-masker.md"]
    for page in slow:
        tree = ast.parse("".join(BLOCK.findall(page.read_text())))
        scope: dict[str, object] = {}
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), name_of(page), "exec"), scope)
        for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]:
            called = scope.get(call.func.id)
            if getattr(called, "__module__", "").startswith("saliencykit"):
                inspect.signature(called).bind(*call.args, **{word.arg: None for word in call.keywords})


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("kind", KINDS)
def test_registered_names_stand_on_their_reference_page(kind: str) -> None:
    plural = "black_boxes" if kind == "black_box" else f"{kind}s"
    page = (ROOT / "docs" / "reference" / f"{plural}.md").read_text()
    ours = [full.split("/")[1] for full in registry().names(kind) if full.startswith("saliencykit/")]
    assert ours
    assert [name for name in ours if not re.search(rf"`{re.escape(name)}\b", page)] == []


def test_commands_hooks_and_errors_are_documented() -> None:
    from saliencykit.cli import app

    page = (ROOT / "docs" / "reference" / "command-line.md").read_text()
    commands = [command.callback.__name__ for command in app.registered_commands if command.callback]
    commands += [group.name for group in app.registered_groups]
    assert [name for name in commands if f"\n## {name}\n" not in page] == []
    assert "::: saliencykit.hookspecs" in (ROOT / "docs" / "reference" / "hooks.md").read_text()
    assert all(getattr(hookspecs, name).__doc__ for name in dir(hookspecs) if name.startswith(("provide_", "wrap_")))
    assert "::: saliencykit.core.errors" in (ROOT / "docs" / "reference" / "errors.md").read_text()
    assert all(getattr(errors, name).__doc__ for name in dir(errors) if name.endswith("Error"))


def test_ci_finds_the_readmes_test_command() -> None:
    readme = (ROOT / "README.md").read_text()
    assert re.search(r"<!-- the test command -->\n```sh\n(.+)\n```", readme)[1].endswith("python -m pytest -n auto --dist loadfile")


def test_troubleshooting_is_keyed_by_messages_that_are_there() -> None:
    """The fixed parts of each heading's text stand in the source, on one line or over adjacent strings."""
    sources = "".join(path.read_text() for path in sorted((ROOT / "saliencykit").rglob("*.py")))
    sources = re.sub(r'"\s*\n\s*f?"', "", sources)
    page = (ROOT / "docs" / "how-to" / "troubleshooting.md").read_text()
    texts = [text for heading in re.findall(r"^### (`.+)$", page, re.MULTILINE) for text in re.findall(r"`([^`]+)`", heading)]
    assert len(texts) > 12
    parts = [(text, part.strip()) for text in texts for part in re.split(r"\.\.\.", text.replace("No space left on device", "..."))]
    missing = [(text, part) for text, part in parts if len(part) > 3 and part.rstrip(":,. ") not in sources]
    assert not missing
