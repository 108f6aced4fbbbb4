"""Make the tutorials' notebooks from their pages: `python docs/notebooks.py [--execute] [NAME
...]`.

A page is the single source: prose becomes text cells, Python blocks become code cells, and other
blocks stay text. Comments in the page, which a browser does not show, say what differs:

    <!-- notebook: run -->            the next block, of shell commands, is a cell of `!` lines
    <!-- notebook: write FILE -->    the next block is a cell that writes FILE (`append FILE`: adds)
    <!-- notebook: leave out -->      the next block or paragraph is not in the notebook
    <!-- notebook: instead            this Python code becomes a cell that only the notebook has
    ... -->
    <!-- notebook: say                the same with text
    ... -->

Without `--execute` a notebook keeps the outputs of the cells that have not changed since it was
last executed.
"""

import argparse
import base64
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode, v4

TUTORIALS = Path(__file__).parent / "tutorials"
NEEDS = {
    "first-explanation": "saliencykit",
    "train-a-masker": "'saliencykit[train]'",
    "compare-methods": "saliencykit",
    "find-a-shortcut": "saliencykit scikit-learn",
    "write-a-plugin": "saliencykit pytest",
}
"""What pip must install for each notebook, besides Jupyter."""
PARAMETERS = "parameters"
"""The tag of the cell with the settings that determine the running time: only constants,
NAME = number.
"""

_FENCE = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$\n?', re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--(.*?)-->\n?", re.DOTALL)
_PIECE = re.compile(f"{_FENCE.pattern}|{_COMMENT.pattern}", re.MULTILINE | re.DOTALL)
_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")
_CONSTANTS = re.compile(r"(?:[A-Z][A-Z_]* = [\d.]+ *(?:#.*)?\n)+")
_SECONDS = re.compile(r" in \d+\.\d+s(?: \(\d+:\d+:\d+\))?")  # of pytest, others at every run


def notebook_of(page: Path) -> NotebookNode:
    """The notebook of a page, without outputs; deterministic."""
    cells: list[NotebookNode] = []
    for kind, text in _cells(page):
        cell = v4.new_markdown_cell(text) if kind == "text" else v4.new_code_cell(text)
        cell.id = f"{kind}-{len(cells)}"  # nbformat would choose a random one
        if kind == "text":
            _attach(cell, page.parent)
        elif _CONSTANTS.fullmatch(text + "\n"):
            cell.metadata.tags = [PARAMETERS]
        cells.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return v4.new_notebook(
        cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}}
    )


def _cells(page: Path) -> Iterator[tuple[str, str]]:
    """(`text` or `code`, source), the prose cut at headings."""
    prose = ""
    for kind, text in _pieces(page):
        if kind == "text":
            prose += text
        else:
            yield from (("text", part) for part in _sections(prose))
            prose = ""
            yield "code", text.strip("\n")
    yield from (("text", part) for part in _sections(prose))


def _pieces(page: Path) -> Iterator[tuple[str, str]]:
    """The page in order, prose as it is, blocks as their directives say."""
    text, at, order = page.read_text(), 0, ""
    title, _, rest = text.partition("\n")
    text = re.sub(r"\n\[This page as a notebook\].*?(?=\n\n)", "", rest, count=1, flags=re.DOTALL)
    yield "text", f"{title}\n\n{_preface(page)}\n"
    for found in _PIECE.finditer(text):
        prose, at = text[at : found.start()], found.end()
        if order == "leave out" and prose.strip():  # a paragraph, not a block
            prose, order = prose.lstrip("\n").partition("\n\n")[2], ""
        yield "text", _linked(prose)
        language, name, code, comment = found.groups()
        if comment is not None:
            directive, _, body = comment.strip().partition("\n")
            if directive.startswith("notebook: "):
                order = directive.removeprefix("notebook: ").strip()
                if order in ("instead", "say"):
                    yield ("code" if order == "instead" else "text"), f"\n{body.rstrip()}\n\n"
                    order = ""
                elif order.split()[0] not in ("run", "write", "append", "leave"):
                    raise ValueError(
                        f"{page.name}: {directive!r} is no directive, see docs/notebooks.py"
                    )
            continue
        if order == "run":
            yield "code", "".join(f"!{line}\n" for line in code.splitlines())
        elif order.startswith(("write ", "append ")):
            verb, _, file = order.partition(" ")
            before = "\n\n" if verb == "append" else ""
            yield "code", f"%%writefile {'-a ' if verb == 'append' else ''}{file}\n{before}{code}"
        elif language == "python" and name is None and not order:
            yield "code", code
        elif order != "leave out":
            yield "text", f"```{language}\n{f'# {name}{chr(10)}' if name else ''}{code}```\n"
        order = ""
    yield "text", _linked(text[at:])


def _preface(page: Path) -> str:
    return (
        f"> The page [{page.stem}]({page.name}) as a notebook, made by `docs/notebooks.py`. It "
        f"needs Python 3.11 or newer and `pip install {NEEDS[page.stem]} jupyterlab`.\n"
    )


def _sections(prose: str) -> list[str]:
    parts = re.split(r"^(?=## )", prose, flags=re.MULTILINE)
    return [re.sub(r"\n{3,}", "\n\n", part.strip("\n")) for part in parts if part.strip()]


def _linked(prose: str) -> str:
    """The other tutorials' notebooks in place of their pages; all else lies where it lies for the
    page.
    """
    return re.sub(
        r"\]\(([\w-]+)\.md\b",
        lambda found: f"]({found[1]}.{'ipynb' if found[1] in NEEDS else 'md'}",
        prose,
    )


def _attach(cell: NotebookNode, folder: Path) -> None:
    """Pictures go into the notebook, which is often read far from its folder."""
    for _, target in _IMAGE.findall(cell.source):
        file = folder / target
        data = base64.b64encode(file.read_bytes()).decode()
        cell.setdefault("attachments", {})[file.name] = {
            f"image/{file.suffix[1:].replace('jpg', 'jpeg')}": data
        }
        cell.source = cell.source.replace(f"]({target})", f"](attachment:{file.name})")


def execute(notebook: NotebookNode, folder: Path, timeout: int = 600) -> None:
    """Run all cells in a folder, by a kernel of this Python, and put clean outputs into them.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    with tempfile.TemporaryDirectory() as settings:
        # for `!saliencykit`
        paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        # those of this machine do not matter
        plugins = ",".join(point.name for point in entry_points(group="saliencykit"))
        environment = os.environ | {
            "PATH": paths,
            "IPYTHONDIR": settings,
            "SALIENCYKIT_DISABLE": plugins,
        }
        # tqdm's, of a widget
        environment |= {
            "COLUMNS": "100",
            "NO_COLOR": "1",
            "PYTHONWARNINGS": "ignore:IProgress not found",
        }
        place = {"metadata": {"path": str(folder)}}
        client = NotebookClient(
            notebook, timeout=timeout, kernel_name="python3", resources=place, coalesce_streams=True
        )
        client.execute(env=environment)
    notebook.metadata.language_info = {"name": "python"}  # without the version
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times
        if cell.cell_type == "code":
            cell.outputs = [_clean(output) for output in cell.outputs]


def check(notebook: NotebookNode, folder: Path) -> None:
    """What is shown to others holds no warnings, and no paths of this machine.

    Raises:
        ValueError: It does.
    """
    for cell in notebook.cells:
        shown = nbformat.writes(v4.new_notebook(cells=[cell]))
        private = [
            text
            for text in (str(folder), str(Path.home()), sys.prefix, str(TUTORIALS.parents[1]))
            if f"{text}/" in shown
        ]
        if private or any(output.get("name") == "stderr" for output in cell.get("outputs", [])):
            raise ValueError(
                f"{private or 'a warning'} in the output of this cell; mend the page or the "
                f"library:\n{shown[:4000]}"
            )


def _clean(output: NotebookNode) -> NotebookNode:
    if output.output_type == "stream":
        output.text = _SECONDS.sub("", output.text)
    if "image/jpeg" in output.get("data", {}):
        output.data.pop("image/png", None)  # a PIL picture gives both
    return output


def write(notebook: NotebookNode, path: Path) -> None:
    nbformat.validate(notebook)
    path.write_text(nbformat.writes(notebook) + "\n")


def with_outputs_of(fresh: NotebookNode, old: NotebookNode) -> NotebookNode:
    """Cells whose code is as it was keep what they showed."""
    shown: dict[str, Any] = {cell.source: cell for cell in old.cells if cell.cell_type == "code"}
    for cell in fresh.cells:
        if cell.cell_type == "code" and cell.source in shown:
            cell.outputs, cell.execution_count = (
                shown[cell.source].outputs,
                shown[cell.source].execution_count,
            )
    return fresh


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names",
        nargs="*",
        choices=[*NEEDS, []],
        metavar="NAME",
        help=f"of {', '.join(NEEDS)}; default: all",
    )
    parser.add_argument(
        "--execute",
        action="store_true",
        help="run the cells, with the page's own numbers: a few minutes",
    )
    arguments = parser.parse_args()
    for name in arguments.names or NEEDS:
        made, target = notebook_of(TUTORIALS / f"{name}.md"), TUTORIALS / f"{name}.ipynb"
        if arguments.execute:
            with tempfile.TemporaryDirectory() as work:
                execute(made, Path(work))
                check(made, Path(work))
        elif target.exists():
            made = with_outputs_of(made, nbformat.read(target, 4))
        write(made, target)
        print(f"wrote {target.name}, {target.stat().st_size // 1000} kB")
