import csv
import json
import math

import numpy as np
import pytest

from saliencykit.core.errors import InputError
from saliencykit.evaluation.score_rows import Row
from saliencykit.evaluation.scores import Scores

SETTINGS = {
    "maskers": {"b": "", "a": ""},
    "metrics": {"y": {"higher_is_better": True}, "x": {"higher_is_better": False}},
}


@pytest.fixture
def scores():
    generator = np.random.default_rng(0)
    rows = []
    for i in range(20):
        base = float(generator.normal(0, 5))
        found = {"x": base, "y/one": 1.0, "y/two": math.nan}
        rows.append(Row(sample=str(i), index=i, masker="a", scores=found, seconds=0.5))
        rows.append(
            Row(
                sample=str(i),
                index=i,
                masker="b",
                scores=found | {"x": base + 1 + float(generator.normal(0, 0.1))},
            )
        )
    rows[1] = Row(sample="0", index=0, masker="b", failure="broken")
    return Scores(tuple(rows), SETTINGS)


def test_the_order_is_that_of_the_settings(scores):
    assert scores.maskers == ("b", "a")
    assert scores.names == ("y/one", "y/two", "x")
    assert scores.main == ("y/one", "x")
    assert [scores.higher_is_better(name) for name in (*scores.names, "z")] == [
        True,
        True,
        False,
        None,
    ]


def test_the_table_equals_hand_computed_values(scores):
    lines = {(line.masker, line.score): line for line in scores.table()}
    assert len(lines) == 6
    values = [row.scores["x"] for row in scores.rows if row.masker == "b" and row.scores]
    line = lines["b", "x"]
    assert line.mean == pytest.approx(np.mean(values))
    assert line.median == pytest.approx(np.median(values))
    assert (line.n, line.missing) == (19, 1)
    half = 1.96 * np.std(values) / 19**0.5
    assert line.low == pytest.approx(np.mean(values) - half, abs=0.3 * half)
    assert line.high == pytest.approx(np.mean(values) + half, abs=0.3 * half)
    assert (lines["a", "y/one"].low, lines["a", "y/one"].high) == (1, 1)
    assert math.isnan(lines["a", "y/two"].mean)
    assert (lines["a", "y/two"].n, lines["a", "y/two"].missing) == (0, 20)
    assert repr(scores.table()) == repr(scores.table())


def test_a_paired_difference_is_sharper_than_two_intervals(scores):
    found = {(each.masker, each.score): each for each in scores.compare("a")}
    lines = {(line.masker, line.score): line for line in scores.table()}
    assert lines["a", "x"].high > lines["b", "x"].low, "the intervals overlap"
    each = found["b", "x"]
    assert each.low > 0.9
    assert each.high < 1.1
    assert each.n == 19
    assert set(found) == {("b", name) for name in scores.names}
    with pytest.raises(InputError, match="unknown masker 'c'; this evaluation has b, a"):
        scores.compare("c")


def test_means_seconds_and_failures_are_grouped_by_masker(scores):
    assert scores.means()["a"]["y/one"] == 1
    assert scores.seconds()["a"] == 0.5
    assert math.isnan(scores.seconds()["b"])
    assert scores.failures() == {("b", "broken"): 1}
    assert "\n  a: y/one 1, x " in repr(scores)  # the first of each metric
    assert repr(scores).endswith("and 1 other scores, see means()")


def test_tables_are_written_as_csv_and_json(scores, tmp_path):
    rows = list(csv.DictReader(scores.to_csv(tmp_path / "t.csv").read_text().splitlines()))
    assert len(rows) == 6
    assert rows[1]["mean"] == ""
    assert float(rows[0]["mean"]) == 1
    found = json.loads(scores.to_json(tmp_path / "t.json").read_text())
    assert found[1]["mean"] is None
    assert found[0]["score"] == "y/one"


def test_no_rows_give_an_empty_table():
    assert Scores(()).table() == ()
    assert Scores(()).means() == {}


def test_a_tilde_in_a_path_is_expanded(scores, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for write in (scores.to_csv, scores.to_json):
        path = write(f"~/{write.__name__}")
        assert path == tmp_path / write.__name__
        assert path.is_file()
    assert not (tmp_path / "~").exists()
    with pytest.raises(InputError, match=f"there is no evaluation in {tmp_path}"):
        Scores.load("~")
