"""The tutorials' notebooks are what docs/notebooks.py makes of the pages, and they run."""

import importlib.util
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
if find_spec("nbclient") is None or find_spec("ipykernel") is None:
    pytest.skip("pip install '.[dev]'", allow_module_level=True)

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
SETTINGS = {
    "first-explanation": [],
    "train-a-masker": ["PHOTOS", "EPOCHS", "UNLABELED", "STEPS", "TEST", "COMPARED"],
    "compare-methods": ["PHOTOS", "EPOCHS", "SCORED", "SAMPLES", "STEPS"],
    "find-a-shortcut": ["EPOCHS", "MORE_EPOCHS", "PER_DIGIT"],
    "write-a-plugin": [],
}
"""The parameter cell of each tutorial, if it has one; the others are fast anyway."""
MOST = 400_000  # bytes of a notebook


def script():
    spec = importlib.util.spec_from_file_location("docs_notebooks", ROOT / "docs" / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


notebooks = script()
NAMES = pytest.mark.parametrize("name", list(SETTINGS))


def committed(name):
    return nbformat.read(TUTORIALS / f"{name}.ipynb", 4)


def sources(notebook):
    return [
        (cell.cell_type, cell.id, cell.source, cell.metadata.get("tags"), cell.get("attachments"))
        for cell in notebook.cells
    ]


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_every_tutorial_has_its_notebook():
    pages = {page.stem for page in TUTORIALS.glob("*.md")}
    assert (
        pages
        == set(SETTINGS)
        == set(notebooks.NEEDS)
        == {path.stem for path in TUTORIALS.glob("*.ipynb")}
    )
    for name in pages:
        assert f"]({name}.ipynb)" in (TUTORIALS / f"{name}.md").read_text()


@NAMES
def test_a_notebook_is_what_its_page_makes(name):
    """After a change of a page: python docs/notebooks.py --execute NAME."""
    assert sources(committed(name)) == sources(notebooks.notebook_of(TUTORIALS / f"{name}.md"))


@NAMES
def test_a_notebook_was_run_in_order_and_is_clean_and_small(name):
    notebook, path = committed(name), TUTORIALS / f"{name}.ipynb"
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code_of(notebook)] == list(
        range(1, len(code_of(notebook)) + 1)
    )
    assert path.stat().st_size < MOST
    assert notebook.metadata.language_info == {"name": "python"}
    text = path.read_text()
    assert not re.search(r"/(home|root|tmp|Users|opt|usr|var|work)/", text)
    assert not [
        cell
        for cell in code_of(notebook)
        for output in cell.outputs
        if output.get("name") == "stderr"
    ]
    assert '"text/html"' in text or '"image/' in text  # at least one figure


@NAMES
def test_the_links_of_a_notebook_lead_to_files(name):
    for cell in committed(name).cells:
        for target in (
            re.findall(r"\]\(([^)#]+)[^)]*\)", cell.source) if cell.cell_type == "markdown" else ()
        ):
            if target.startswith("attachment:"):
                assert target.removeprefix("attachment:") in cell.attachments
            elif "://" not in target:
                assert (TUTORIALS / target).exists(), target


@NAMES
def test_the_settings_that_determine_the_running_time_are_in_the_first_cell(name):
    cells = code_of(committed(name))
    tagged = [cell for cell in cells if notebooks.PARAMETERS in cell.metadata.get("tags", [])]
    assert tagged == (cells[:1] if SETTINGS[name] else [])
    assert [
        re.match(r"\w+", line)[0] for cell in tagged for line in cell.source.splitlines()
    ] == SETTINGS[name]


@pytest.mark.slow  # a kernel of its own, and trainings
@NAMES
def test_a_notebook_runs(name, tmp_path, monkeypatch):
    """With its own settings and assertions: tests/test_docs.py need not run those pages again."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = notebooks.notebook_of(TUTORIALS / f"{name}.md")
    notebooks.execute(notebook, tmp_path)
    assert any(
        output.output_type in ("execute_result", "display_data")
        for cell in code_of(notebook)
        for output in cell.outputs
    )


PAGE = """# A page

[This page as a notebook](page.ipynb), and so on
over two lines.

Text with ![an image](dot.png) and [a link](write-a-plugin.md#x), [another](other.md).

```python
STEPS = 3    # of something
RATE = 0.5
```

<!-- not for us -->
```python title="a/b.py"
excerpt()
```

## Heading

<!-- notebook: run -->
```sh
one
two
```
<!-- notebook: leave out -->
```text
shown by the cell above
```

<!-- notebook: leave out -->
Only the page says this,
in two lines.

Both say this.

<!-- notebook: write a/b.py -->
```python title="b.py"
whole = 1
```
<!-- notebook: append a/b.py -->
```python title="b.py"
more = 2
```
<!-- notebook: say
Only the notebook says this.
-->
<!-- notebook: instead
only_here()
-->
```python
last()
```
"""


def test_a_page_is_converted_to_cells(tmp_path, monkeypatch):
    monkeypatch.setitem(notebooks.NEEDS, "page", "'saliencykit[x]'")
    (tmp_path / "dot.png").write_bytes(b"dot")
    (tmp_path / "page.md").write_text(PAGE)
    cells = notebooks.notebook_of(tmp_path / "page.md").cells
    assert [cell.source for cell in cells if cell.cell_type == "code"] == [
        "STEPS = 3    # of something\nRATE = 0.5",
        "!one\n!two",
        "%%writefile a/b.py\nwhole = 1",
        "%%writefile -a a/b.py\n\n\nmore = 2",
        "only_here()",
        "last()",
    ]
    texts = [cell for cell in cells if cell.cell_type == "markdown"]
    first = texts[0].source
    assert first.startswith("# A page\n\n> The page [page](page.md) as a notebook")
    assert "pip install 'saliencykit[x]' jupyterlab" in first
    assert first.endswith(
        "![an image](attachment:dot.png) and [a link](write-a-plugin.ipynb#x), [another](other.md)."
    )
    assert texts[0].attachments == {"dot.png": {"image/png": "ZG90"}}
    assert [cell.source for cell in texts[1:]] == [
        "```python\n# a/b.py\nexcerpt()\n```",
        "## Heading",
        "Both say this.",
        "Only the notebook says this.",
    ]
    assert cells[1].metadata.tags == [notebooks.PARAMETERS]


def test_an_unknown_directive_raises(tmp_path, monkeypatch):
    monkeypatch.setitem(notebooks.NEEDS, "page", "saliencykit")
    (tmp_path / "page.md").write_text("# A\n\n<!-- notebook: rum -->\n")
    with pytest.raises(ValueError, match="'notebook: rum' is no directive"):
        notebooks.notebook_of(tmp_path / "page.md")


def test_without_executing_the_outputs_of_unchanged_cells_remain(tmp_path):
    old = committed("first-explanation")
    fresh = notebooks.notebook_of(TUTORIALS / "first-explanation.md")
    code_of(fresh)[0].source += "\n# changed"
    kept = code_of(notebooks.with_outputs_of(fresh, old))
    assert kept[0].outputs == []
    assert kept[1].outputs == code_of(old)[1].outputs != []
