import math

import pytest

from saliencykit.core.errors import SaliencyKitError
from saliencykit.evaluation.score_rows import Row, append_rows, read_rows

ROW = Row(
    sample="a.png",
    index=0,
    masker="m",
    label=3,
    label_name="chat é",
    probability=0.25,
    seconds=0.5,
    scores={"x": 1.5},
)


def test_a_row_survives_a_round_trip():
    assert Row.of(__import__("json").loads(ROW.line())) == ROW
    assert ROW.rounded() == ROW
    missing = Row(
        sample="b", index=1, masker="m", scores={"x": math.nan, "y": math.inf}, failure="why"
    )
    assert '"x":null' in missing.line()
    back = missing.rounded()
    assert math.isnan(back.scores["x"])
    assert back.failure == "why"
    assert back.label is None


@pytest.mark.parametrize("cut", range(1, 40, 7))
def test_an_incomplete_line_is_skipped_and_the_next_row_starts_a_new_one(tmp_path, cut):
    path = tmp_path / "rows.jsonl"
    other = Row(sample="b.png", index=1, masker="m", scores={"x": 2.0})
    append_rows(path, [ROW, other])
    path.write_bytes(path.read_bytes()[:-cut])
    append_rows(path, [Row(sample="c.png", index=2, masker="m")])
    assert [row.index for row in read_rows([path])] == ([0, 1, 2] if cut == 1 else [0, 2])


def test_the_first_of_two_rows_counts(tmp_path):
    append_rows(tmp_path / "a", [ROW])
    append_rows(tmp_path / "b", [Row(sample="a.png", index=0, masker="m", scores={"x": 9.0})])
    assert read_rows([tmp_path / "a", tmp_path / "b", tmp_path / "none"]) == [ROW]


def test_a_file_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(SaliencyKitError, match="cannot be written: Is a directory"):
        append_rows(tmp_path, [ROW])


def test_lines_that_are_not_rows_are_skipped(tmp_path):
    no_number = b'{"sample":"a","index":0,"masker":"m","scores":{},"seconds":"x"}\n'
    (tmp_path / "rows").write_bytes(
        b'[1]\n{"sample":1}\n' + no_number + b"null\n\xff\xfe\n" + ROW.line().encode()
    )
    assert read_rows([tmp_path / "rows"]) == [ROW]
