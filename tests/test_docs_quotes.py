"""Everything that the docs quote exists: commands, options, names, extras, benchmarks, and the
functions in blocks that are not run.
"""

import ast
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import saliencykit
from tests.test_docs import COMMANDS, FENCE, OURS, PAGES, ROOT, name_of


def quoted_commands(text: str) -> Iterator[str]:
    """Command lines that begin with `saliencykit`, in blocks of shell commands and between single
    backticks.
    """
    for block in re.findall(r"^```(?:sh|bash|shell)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|", line):
                if found := re.match(r"\s*(?:.* -m )?saliencykit\b(?![-\w./])(.*)", part):
                    yield found[1]
    for part in re.findall(r"(?<!`)`saliencykit ([a-z][^`]*)`(?!`)", FENCE.sub("", text)):
        yield part


def test_quoted_commands_and_their_options_exist() -> None:
    for line in [line for page in PAGES for line in quoted_commands(page.read_text())]:
        words = shlex.split(line, comments=True)
        if not words or words[0].startswith("--"):
            assert set(words) <= {"--help", "--version"}, line
            continue
        assert words[0] in COMMANDS or words[0].isupper(), line
        command = COMMANDS.get(words[0])
        if len(words) > 1:
            command = getattr(command, "commands", {}).get(words[1], command)
        known = {
            one
            for each in getattr(command, "params", [])
            for one in (*each.opts, *each.secondary_opts)
        } | {"--help"}
        assert {word.split("=")[0] for word in words[1:] if word.startswith("-")} <= known, line


def test_quoted_commands_are_recognized() -> None:
    block = (
        "accelerate launch -m saliencykit fit --a \\\n    --b x  # no --c\n"
        "pip install x && saliencykit explain\n"
    )
    page = f"```sh\n{block}```\n`saliencykit run`"
    assert [shlex.split(line, comments=True) for line in quoted_commands(page)] == [
        ["fit", "--a", "--b", "x"],
        ["explain"],
        ["run"],
    ]


def test_quoted_names_and_extras_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for page in PAGES:
        text = page.read_text()
        check_names(text)
        extras = re.findall(r"(?:saliencykit|\.)\[([a-z,]+)\]", text)
        named = {extra for each in extras for extra in each.split(",")}
        assert named <= set(project["optional-dependencies"]), name_of(page)


def check_names(text: str) -> None:
    for line in quoted_commands(text):
        for option, value in re.findall(r"--(masker|metric|alternative) (\S+)", line):
            if "://" in value:  # a file in a store
                continue
            name = re.split(
                r"[:+]", value.split("=", 1)[1] if re.match(r"[\w-]+=", value) else value
            )[0]
            if re.fullmatch(
                r"[a-z][a-z0-9-]+", name
            ):  # else a file, a plugin's name, or a placeholder
                # the page's own, on the page about plugins
                assert (option, name) in OURS or f'"{name}"' in text, line


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "\n```py\n" in page.read_text()], ids=name_of
)
def test_blocks_that_are_not_run_parse_and_match_the_signatures(page: Path) -> None:
    """These need the network, a service, a camera or a package that the tests do not have."""
    for block in re.findall(r"^```py\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        for call in [
            node
            for node in ast.walk(ast.parse(block))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        ]:
            if call.func.id in saliencykit.__all__:
                signature = inspect.signature(getattr(saliencykit, call.func.id))
                signature.bind(*call.args, **{word.arg: None for word in call.keywords})


def test_quoted_benchmarks_and_recipes_exist_with_their_options() -> None:
    scripts = 0
    for page in [*PAGES, ROOT / "benchmarks" / "README.md"]:
        text = page.read_text().replace("\\\n", " ")
        for module, path, rest in re.findall(
            r"python (?:-m (benchmarks\.\w+)|(plugins/\S+\.py))([^\n`]*)", text
        ):
            script = ROOT / (path or f"{module.replace('.', '/')}.py")
            source = script.read_text()
            for other in re.findall(r"^from benchmarks\.(\w+) import", source, re.MULTILINE):
                source += (ROOT / "benchmarks" / f"{other}.py").read_text()
            options = re.findall(r"(?<!\S)--[\w-]+", rest.split("#")[0])
            known = {"--help", *re.findall(r'"(--[\w-]+)"', source)}
            known |= {f"--no-{one[2:]}" for one in known}  # argparse.BooleanOptionalAction
            assert set(options) <= known, f"{name_of(page)}: {script.name}"
            scripts += 1
    assert scripts > 40


def test_results_pages_contain_the_command_behind_their_tables() -> None:
    for name in (
        "paper-tables",
        "methods",
        "masks",
        "masking-model",
        "small-images",
        "realtime",
        "speed",
    ):
        page = (ROOT / "docs" / "results" / f"{name}.md").read_text()
        assert re.search(r"^(?:    )?python (-m benchmarks\.|plugins/)", page, re.MULTILINE), name


def test_pages_mentioned_in_the_source_exist() -> None:
    folders = [ROOT / folder for folder in ("saliencykit", "benchmarks", "plugins")]
    texts = [
        path.read_text()
        for folder in folders
        for ending in ("*.py", "*.md")
        for path in folder.rglob(ending)
    ]
    quoted = {page for text in texts for page in re.findall(r"docs/[\w-]+/[\w-]+\.md", text)}
    assert len(quoted) > 5
    assert [page for page in sorted(quoted) if not (ROOT / page).is_file()] == []
