import io

from rich.console import Console

from saliencykit.cli.score_tables import comparison_table, evaluating_bar, scores_table
from saliencykit.evaluation.score_rows import Row
from saliencykit.evaluation.scores import Scores

ROWS = [
    Row(sample=str(i), index=i, masker=m, scores={"x": i + (m == "[b]"), "y/p": 0.5})
    for i in range(5)
    for m in ("a", "[b]")
]
ROWS[2] = Row(sample="1", index=1, masker="a", reason="it is [damaged]")
SCORES = Scores(
    tuple(ROWS),
    {"maskers": {"a": "", "[b]": ""}, "metrics": {"x": {"higher_is_better": True}, "y": {}}},
)


def shown(show, width=120):
    text = io.StringIO()
    show(Console(file=text, width=width, highlight=False))
    return text.getvalue()


def test_the_table_says_direction_interval_and_what_is_missing():
    text = shown(lambda to: scores_table(SCORES, to))
    assert "x up" in text
    assert "[b]" in text, "brackets are no markup"
    assert "n=4" in text
    assert "over 5 pictures" in text
    assert "1 picture without all scores by a: it is [damaged]" in text


def test_a_narrow_terminal_gets_several_tables():
    assert shown(lambda to: scores_table(SCORES, to), width=40).count("masker") == 2


def test_a_comparison():
    text = shown(lambda to: comparison_table(SCORES, "a", SCORES.compare("a"), to))
    assert "+1 +1 +1" in text
    assert "each less 'a'" in text


def test_without_a_terminal_there_is_a_line_now_and_then():
    def show(to):
        with evaluating_bar(to) as on_row:
            for done in range(1, 101):
                on_row(ROWS[0], done, 100)

    lines = shown(show).splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("10 of 100 rows, about ")
    assert lines[0].endswith(" s left")
    assert "\x1b" not in lines[0]
