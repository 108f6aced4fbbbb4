import math

from saliencykit.evaluation.score_rows import Row, read_rows

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


def test_the_first_of_two_rows_counts(tmp_path):
    other = Row(sample="a.png", index=0, masker="m", scores={"x": 9.0})
    (tmp_path / "a").write_text(ROW.line() + "\n")
    (tmp_path / "b").write_text(other.line() + "\n" + other.line()[:9])
    assert read_rows([tmp_path / "a", tmp_path / "b", tmp_path / "none"]) == [ROW]


def test_lines_that_are_not_rows_are_skipped(tmp_path):
    no_number = b'{"sample":"a","index":0,"masker":"m","scores":{},"seconds":"x"}\n'
    (tmp_path / "rows").write_bytes(
        b'[1]\n{"sample":1}\n' + no_number + b"null\n\xff\xfe\n" + ROW.line().encode()
    )
    assert read_rows([tmp_path / "rows"]) == [ROW]
