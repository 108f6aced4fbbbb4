"""What the commands run, imported when it is first used: help and wrong options need no torch.

`workflows.pyi` lists the names and the modules that define them.
"""

import ast
import importlib
from pathlib import Path

_PLACES = {
    each.name: node.module if isinstance(node, ast.ImportFrom) else None
    for node in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ImportFrom | ast.Import)
    for each in node.names
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _PLACES[name]
    if module is None:
        return importlib.import_module(name)
    return getattr(importlib.import_module(module), name)
