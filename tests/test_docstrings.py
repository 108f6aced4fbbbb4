"""Every example in the docstrings runs."""

import doctest
import importlib
from pathlib import Path

import pytest
import torch

from saliencykit import registry

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "saliencykit").rglob("*.py")
    if path.name != "__main__.py"
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example may write
    monkeypatch.setattr(registry, "_registry", registry.Registry())  # and may register
    torch.manual_seed(0)
    result = doctest.testmod(
        importlib.import_module(name),
        extraglobs={"torch": torch, "generator": torch.Generator().manual_seed(0)},
        optionflags=doctest.ELLIPSIS,
    )
    assert result.failed == 0
