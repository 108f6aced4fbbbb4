"""The docs are true: Python blocks run, names have a heading, commands and options exist."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest
import typer

import saliencykit
from saliencykit.cli.main import app
from saliencykit.core import errors
from saliencykit.demo import demo_image
from saliencykit.explanation import explain_dataset
from saliencykit.registry import hookspecs
from saliencykit.registry.coerce import create
from saliencykit.registry.manager import KINDS, registry

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# mkdocs --strict checks the links of the others
OUTSIDE_THE_SITE = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "plugins").glob("*/README.md")),
    ROOT / "benchmarks" / "README.md",
]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# blocks that need an engine which tests may lack
ENGINE_BLOCK = re.compile(r"^```py\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
DIRECTIVE = re.compile(r"^::: (saliencykit[\w.]*)\n(?:    options: \{(.*)\})?", re.MULTILINE)
# pages with this comment run under -m slow; the quick tests check their imports and arguments
SLOW = "<!-- slow: "
COMMANDS = typer.main.get_command(app).commands
OURS = [
    (kind, full.split("/")[1])
    for kind in KINDS
    for full in registry().names(kind)
    if full.startswith("saliencykit/")
]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def page_of(kind: str) -> Path:
    return REFERENCE / ("black_boxes.md" if kind == "black_box" else f"{kind}s.md")


def headings(page: Path) -> dict[str, str]:
    """A page's headings; for those of docstrings, the dotted name of the object."""
    text = FENCE.sub("", page.read_text())
    found = dict.fromkeys(re.findall(r"^#+ (.+)$", text, re.MULTILINE), "")
    for path, options in DIRECTIVE.findall(text):
        thing = thing_at(path)
        own = re.search(r"(?<!\w)heading: ([^,}]+)", options)
        names = [name for name, _ in public_in(thing)] if inspect.ismodule(thing) else []
        found |= {own[1] if own else path.rsplit(".", 1)[1]: path} | {
            name: f"{path}.{name}" for name in names
        }
    return found


def thing_at(path: str) -> object:
    """The module, or the object in a module, that a directive names."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, name = path.rsplit(".", 1)
        return getattr(importlib.import_module(module), name)


def public_in(module: object) -> list[tuple[str, object]]:
    things = [(name, thing) for name, thing in vars(module).items() if not name.startswith("_")]
    return [
        (name, thing)
        for name, thing in things
        if getattr(thing, "__module__", None) == module.__name__
    ]


def documented() -> set[int]:
    """The identities of all objects with a heading on a reference page."""
    paths = [path for page in REFERENCE.glob("*.md") for path in headings(page).values() if path]
    return {id(thing_at(path)) for path in paths}


def with_blocks() -> list[object]:
    """Pages with blocks. Those of slow tutorials run as notebooks, in test_notebooks."""
    elsewhere = ROOT / "docs" / "how-to" / "export.md"  # in test_without_torch
    pages = [page for page in PAGES if page != elsewhere and BLOCK.search(page.read_text())]
    slow = {page for page in pages if SLOW in page.read_text()}
    return [
        pytest.param(page, id=name_of(page), marks=[pytest.mark.slow] * (page in slow))
        for page in pages
        if page not in slow or page.parent.name != "tutorials"
    ]


@pytest.mark.parametrize("page", with_blocks())
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": "page"}
    for block in BLOCK.findall(page.read_text()):
        exec(compile(block, name_of(page), "exec"), scope)


@pytest.mark.slow
@pytest.mark.filterwarnings("default:PySpark does not yet fully support:FutureWarning")
@pytest.mark.parametrize("engine", ["ray", "datasets", "pyspark"])
def test_the_block_of_an_engine_explains_a_folder(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(engine)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for angle in range(3):
        demo_image().rotate(angle).save(tmp_path / "photos" / f"{angle}.png")
    blocks = ENGINE_BLOCK.findall((ROOT / "docs" / "how-to" / "cluster.md").read_text())
    (block,) = [block for block in blocks if block.split()[1].startswith(engine)]
    if engine == "ray":  # two workers and a reader, on any machine
        importlib.import_module(engine).init(address="local", num_cpus=4)
    exec(compile(block, engine, "exec"), {"__name__": "page"})
    pandas = importlib.import_module("pandas")
    files = [tmp_path / "explained.parquet", *tmp_path.glob("explained/*.parquet")]
    rows = pandas.concat([pandas.read_parquet(file) for file in files if file.exists()])
    assert (len(rows), set(rows["failure"].fillna(""))) == (3, {""})
    assert (rows["area"] > 0).all()


def test_the_worst_classes_of_a_parquet_run_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("duckdb")
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    options = {"masker": "center-box", "format": "parquet"}
    explain_dataset("demo", [(demo_image(), "tabby")], output_dir="run", **options)
    blocks = ENGINE_BLOCK.findall((ROOT / "docs" / "how-to" / "cluster.md").read_text())
    (block,) = [block for block in blocks if block.startswith("import duckdb")]
    exec(compile(block, "duckdb", "exec"), {"__name__": "page"})
    assert "tabby" in capsys.readouterr().out


def test_imports_and_arguments_on_slow_pages_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = [page for page in PAGES if SLOW in page.read_text()]
    assert "docs/tutorials/train-a-masker.md" in [name_of(page) for page in slow]
    assert {page.parent.name for page in slow} == {"tutorials", "how-to"}
    for page in slow:
        tree = ast.parse("".join(BLOCK.findall(page.read_text())))
        scope: dict[str, object] = {}
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), name_of(page), "exec"), scope)
        for call in [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        ]:
            called = scope.get(call.func.id)
            if getattr(called, "__module__", "").startswith("saliencykit"):
                inspect.signature(called).bind(
                    *call.args, **{word.arg: None for word in call.keywords}
                )


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("hugging-face", "Hugging Face,transformers,ViT,DINOv2,Swin,BEiT,id2label,from_pretrained"),
        (
            "hugging-face",
            "AutoModelForImageClassification,pipeline,CLIP,SigLIP,open_clip,Zero-shot",
        ),
        ("kinds-of-models", "Lightning,fastai,YOLO,ultralytics,Keras,scikit-learn,int8,quantized"),
        ("kinds-of-models", "torch.export,TorchScript,forward_args,volume,clip,12 bits,channels"),
    ],
)
def test_pages_about_libraries_are_found_by_their_words(page: str, words: str) -> None:
    text = (ROOT / "docs" / "how-to" / f"{page}.md").read_text()
    assert [word for word in words.split(",") if word not in text] == []


@pytest.mark.parametrize("page", OUTSIDE_THE_SITE, ids=name_of)
def test_links_of_pages_outside_the_site_lead_to_files(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    targets = re.findall(r"\]\(([^)]+)\)", text)
    local = [one.split("#")[0] for one in targets if not re.match(r"https?:|mailto:|#", one)]
    assert [one for one in local if not (page.parent / one).exists()] == []


@pytest.mark.parametrize("kind", KINDS)
def test_registered_names_have_a_heading_on_their_reference_page(kind: str) -> None:
    found = headings(page_of(kind))
    names = {name for each, name in OURS if each == kind}
    assert names - found.keys() == set()
    for name in names:
        if found[name]:  # else a paragraph that refers to another page
            assert thing_at(found[name]) is registry().find(kind, name)[1], name


def test_hooks_and_errors_have_a_heading() -> None:
    hooks = [name for name, thing in vars(hookspecs).items() if hasattr(thing, "saliencykit_spec")]
    assert len(hooks) == 6
    assert set(hooks) <= set(headings(REFERENCE / "hooks.md"))
    mistakes = [
        name
        for name, thing in vars(errors).items()
        if inspect.isclass(thing) and issubclass(thing, Exception)
    ]
    assert len(mistakes) == 7
    assert set(mistakes) <= set(headings(REFERENCE / "errors.md"))


def test_public_names_are_on_a_reference_page() -> None:
    there = documented()
    assert [
        name
        for name in saliencykit.__all__
        if id(getattr(saliencykit, name)) not in there and name not in ("hookimpl", "__version__")
    ] == []
    assert "hookimpl" in headings(REFERENCE / "hooks.md")


def section(command: str) -> str:
    page = (REFERENCE / "command-line.md").read_text()
    return page.split(f"\n## {command}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_and_their_options_are_documented(name: str) -> None:
    text = section(name)
    assert all(f"\n### {name} {each}\n" in text for each in getattr(COMMANDS[name], "commands", ()))
    for command in [COMMANDS[name], *getattr(COMMANDS[name], "commands", {}).values()]:
        for option in [
            each
            for each in command.params
            if each.param_type_name == "option" and each.name != "help"
        ]:
            spellings = [*option.opts, *option.secondary_opts]
            assert any(
                re.search(rf"(?<![\w-]){re.escape(one)}(?![\w-])", text) for one in spellings
            ), spellings


@pytest.mark.parametrize("name", COMMANDS)
def test_documented_defaults_are_the_commands_own(name: str) -> None:
    text = section(name)
    for option in [
        each
        for each in COMMANDS[name].params
        if isinstance(each.default, str | int | float) and not each.is_flag
    ]:
        rows = re.findall(
            rf"^\|[^|]*`{option.opts[0]}`[^|]*\|.*\bdefault `?([\w.-]+)", text, re.MULTILINE
        )
        assert not rows or str(option.default) in [row.rstrip(".") for row in rows], option.opts


def test_the_page_on_choosing_a_masker_lists_all_and_says_which_need_gradients() -> None:
    page = (ROOT / "docs" / "explanation" / "which-masker.md").read_text()
    rows = [
        line.split("|")[1:-1]
        for line in page.split("| masker |")[1].splitlines()[2:]
        if line.startswith("| ")
    ]
    needs = {
        name: cells[2].strip() for cells in rows for name in re.findall(r"`([\w-]+)`", cells[0])
    }
    for name in [name for kind, name in OURS if kind == "masker" and name != "demo"]:
        if name not in (
            "attribution",
            "on-surrogate",
            "stored",
        ):  # these need a method, a surrogate, a run
            assert needs[name] == ("yes" if create("masker", name).needs_gradient else "no"), name
        assert needs[name]


def test_the_gallery_has_a_row_for_every_masker() -> None:
    others = {"attribution", "demo", "on-surrogate", "stored"} | {
        "center-box",
        "whole-image",
        "random",
        "ground-truth",
    }
    tree = ast.parse((ROOT / "docs" / "gallery.py").read_text())
    methods = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "METHODS"
    )
    assert {name for names in methods.values() for name in names} == {
        name for kind, name in OURS if kind == "masker"
    } - others
    page = (ROOT / "docs" / "explanation" / "which-masker.md").read_text()
    assert all(f"assets/gallery-{kind}.jpg" in page for kind in [*methods, "trained"])


def test_the_readme_contains_the_test_command() -> None:
    readme = (ROOT / "README.md").read_text()
    assert re.search(r"<!-- the test command -->\n```sh\n(.+)\n```", readme)[1].endswith(
        "python -m pytest -n auto --dist loadfile"
    )


def test_the_messages_on_the_troubleshooting_page_exist() -> None:
    """The fixed parts of each heading are in the source, in one string or in adjacent ones."""
    sources = "".join(path.read_text() for path in sorted((ROOT / "saliencykit").rglob("*.py")))
    sources = re.sub(r'"\s*\n\s*f?"', "", sources)
    page = (ROOT / "docs" / "how-to" / "troubleshooting.md").read_text()
    texts = [
        text
        for heading in re.findall(r"^### (`.+)$", page, re.MULTILINE)
        for text in re.findall(r"`([^`]+)`", heading)
    ]
    assert len(texts) > 12
    parts = [
        (text, part.strip())
        for text in texts
        for part in re.split(r"\.\.\.", text.replace("No space left on device", "..."))
    ]
    missing = [
        (text, part) for text, part in parts if len(part) > 3 and part.rstrip(":,. ") not in sources
    ]
    assert not missing
