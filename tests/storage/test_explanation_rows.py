import json

import pytest

from saliencykit.storage.explanation_rows import ExplainedRow, hexadecimal

ROW = ExplainedRow(
    name="é/a.png", index=7, label=3, label_name="cat", probability=0.123456789, area=0.25,
    kept=1.0, dropped=0.0, seconds=0.5,
    size=(32, 48), image_key=hexadecimal(-5), shard="maps-0-0", key="7",
)  # fmt: skip
NAMED = {"name": "a", "index": 1}


def test_a_line_and_back():
    line = ROW.line()
    assert "\n" not in line
    back = ExplainedRow.of(json.loads(line))
    assert back.probability == 0.1234568
    assert ExplainedRow.of(json.loads(back.line())) == back
    assert back.size == (32, 48)
    assert (back.name, back.image_key) == ("é/a.png", "fffffffffffffffb")


def test_a_failed_picture_and_what_a_newer_version_wrote():
    row = ExplainedRow(name="b", index=8, failure="it is damaged")
    assert ExplainedRow.of(json.loads(row.line()) | {"new": 1}) == row
    assert row.in_shard("maps-0-1").key == "8"


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"name": "a"},
        {"name": "a", "index": "x"},
        NAMED | {"size": [1]},
        NAMED | {"area": "x"},
        NAMED | {"kept": []},
    ],
)
def test_what_is_no_row_is_said(data):
    with pytest.raises((KeyError, TypeError, ValueError)):
        ExplainedRow.of(data)
