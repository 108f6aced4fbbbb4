import json

import pytest

from saliencykit.core.errors import InputError
from saliencykit.storage.explanation_rows import ExplainedRow, hexadecimal
from saliencykit.storage.typed_json import typed

ROW = ExplainedRow(
    name="é/a.png", index=7, label=3, label_name="cat", probability=0.123456789, area=0.25,
    kept=1.0, dropped=0.0, seconds=0.5,
    height=32, width=48, image_key=hexadecimal(-5),
)  # fmt: skip
NAMED = {"name": "a", "index": 1}


def test_a_line_and_back():
    line = ROW.line()
    assert "\n" not in line
    back = typed(json.loads(line), ExplainedRow, "a row")
    assert back.probability == 0.1234568
    assert typed(json.loads(back.line()), ExplainedRow, "a row") == back
    assert back.size == (32, 48)
    assert (back.name, back.image_key) == ("é/a.png", "fffffffffffffffb")


def test_a_failed_image_and_what_a_newer_version_wrote():
    row = ExplainedRow(name="b", index=8, failure="it is damaged")
    assert typed(json.loads(row.line()) | {"new": 1}, ExplainedRow, "a row") == row


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"name": "a"},
        {"name": "a", "index": "x"},
        NAMED | {"height": "1"},
        NAMED | {"area": "x"},
        NAMED | {"kept": []},
        NAMED | {"index": 2**70},
        NAMED | {"height": 0},
    ],
)
def test_what_is_no_row_is_said(data):
    with pytest.raises(InputError, match="a row is damaged: "):
        typed(data, ExplainedRow, "a row")
