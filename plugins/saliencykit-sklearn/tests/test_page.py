"""The how-to page is true: its blocks run, one after the other."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "sklearn.md"
BLOCK = re.compile(r"^```py\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(not PAGE.exists(), reason="not in the repository")
def test_the_blocks_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    scope = {"__name__": "page"}
    for block in BLOCK.findall(text):
        exec(compile(block, PAGE.name, "exec"), scope)
    assert Path("digit.png").exists()
    assert scope["explanation"].mask.shape == (3, 1, 8, 8)
