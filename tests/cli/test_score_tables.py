import pytest

from saliencykit.cli.score_tables import print_comparison, print_scores
from saliencykit.evaluation.score_rows import Row
from saliencykit.evaluation.scores import Scores

ROWS = [
    Row(sample=str(i), index=i, masker=m, scores={"x": i + (m == "[b]"), "y/p": 0.5})
    for i in range(5)
    for m in ("a", "[b]")
]
ROWS[2] = Row(sample="1", index=1, masker="a", failure="it is [damaged]")
SCORES = Scores(
    tuple(ROWS),
    {"maskers": {"a": "", "[b]": ""}, "metrics": {"x": {"higher_is_better": True}, "y": {}}},
)


@pytest.fixture
def shown(capsys, monkeypatch):
    """What is printed in a terminal of some width."""

    def show(width, function, *arguments):
        monkeypatch.setenv("COLUMNS", str(width))
        function(*arguments)
        return capsys.readouterr().out

    return show


def test_the_table_has_directions_intervals_and_what_is_missing(shown):
    text = shown(120, print_scores, SCORES)
    assert "x up" in text
    assert "[b]" in text, "brackets are not markup"
    assert "n=4" in text
    assert "over 5 images" in text
    assert "1 image without all scores of a: it is [damaged]" in text


def test_a_narrow_terminal_gets_several_tables(shown):
    assert shown(40, print_scores, SCORES).count("masker") == 2


def test_a_comparison_has_differences_and_intervals(shown):
    text = shown(120, print_comparison, SCORES, "a", SCORES.compare("a"))
    assert "+1 [+1, +1]" in text
    assert "each minus 'a'" in text


def test_a_metric_that_applies_to_no_image_says_so(shown):
    rows = tuple(Row(sample="a", index=0, masker=m, scores={"x": float("nan")}) for m in "ab")
    scores = Scores(rows, {"maskers": {"a": "", "b": ""}, "metrics": {"x": {}}})
    assert "x: does not apply to these images" in shown(120, print_scores, scores)
