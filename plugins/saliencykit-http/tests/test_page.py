"""The how-to page is true: its blocks run, one after the other."""

import re
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "service.md"
BLOCK = re.compile(r"^```py\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(not PAGE.exists(), reason="not in the repository")
def test_the_blocks_of_the_page_run(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8").replace(
        "http://localhost:8000/v2/models/resnet", server.url
    )
    scope = {"__name__": "page", "photo": torch.rand(1, 3, 16, 16)}
    for block in BLOCK.findall(text):
        exec(compile(block, PAGE.name, "exec"), scope)
    assert server.images == 1 + 200 + 3
    encoded = scope["encode"](torch.rand(2, 16, 16, 3).numpy())
    assert len(encoded["images"]) == 2
