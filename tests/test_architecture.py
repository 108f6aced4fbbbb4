"""The rules of the layout that no linter holds, and the layers, which import-linter holds."""

import ast
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "saliencykit"
FILES = sorted(PACKAGE.rglob("*.py"))
OPTIONAL = {
    "accelerate",
    "av",
    "captum",
    "gradio",
    "huggingface_hub",
    "ipywidgets",
    "hypothesis",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "pyarrow",
    "upath",
    "timm",
    "tqdm",
    "transformers",
}


def test_imports_run_one_way():
    pytest.importorskip("importlinter")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_root_holds_three_modules():
    assert [path.name for path in sorted(PACKAGE.glob("*.py"))] == [
        "__init__.py",
        "__main__.py",
        "_version.py",
    ]


def test_no_two_files_share_a_stem():
    """Except commands, each of the name of its entry function, and the suite of each contract."""
    one_per_name = (PACKAGE / "cli", PACKAGE / "testing" / "contracts")
    stems = Counter(
        path.stem
        for path in FILES
        if path.parent not in one_per_name and not path.stem.startswith("__")
    )
    assert {stem for stem, count in stems.items() if count > 1} == set()


def test_only_optional_or_slow_packages_are_imported_inside_functions():
    imports = {
        f"{path.relative_to(PACKAGE).as_posix()}: {name}"
        for path in FILES
        for function in _nodes(path)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        for name in _imported(node)
        if name.split(".")[0] not in OPTIONAL | {"torchvision"}  # 2 s: it loads torch._dynamo
    }
    assert sorted(imports) == []


def test_no_module_imports_the_root():
    """The root lists names of every package, so an import of it from inside would be a circle."""
    imports = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        for node in _nodes(path)
        if "saliencykit" in _imported(node)
    }
    assert sorted(imports) == []


@cache
def _nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []
