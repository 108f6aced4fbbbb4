"""The tests mirror the source: one test file for each file, in the same room."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path.relative_to(ROOT / "saliencykit")
    for path in (ROOT / "saliencykit").rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")  # no code of their own: public names, a call of the command line
)


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_every_source_file_has_its_test_file(source):
    assert (ROOT / "tests" / source.parent / f"test_{source.name}").is_file()


def test_the_file_that_says_where_it_looks_is_found():
    assert Path("core/draw.py") in SOURCES
