"""Tables of scores: as many columns as the terminal has room for, then the next table."""

from collections.abc import Callable, Sequence

from rich.markup import escape

from saliencykit.cli import workflows
from saliencykit.cli.console import console, print_table, say
from saliencykit.evaluation.score_summary import PairedDifference, ScoreSummary
from saliencykit.visualization.html_page import number

_CELL_WIDTH = 24  # `-0.123 [-0.456, -0.789]` and a gap
_MASKER_WIDTH = 30
_MAX_REASONS = 5


def print_scores(scores: "workflows.Scores") -> None:
    """Print the first score of every metric with its interval, and what is missing and why."""
    summaries = {(each.masker, each.score): each for each in scores.table()}
    most = max((each.n for each in summaries.values()), default=0)
    _print_columns(scores, scores.maskers, lambda *key: _mean(summaries[key], most))
    count = len({row.index for row in scores.rows})
    over = f"{most} of {count}" if most < count else f"{count}"
    say(
        f"mean and 95% confidence interval (bootstrap) over {over} images; up: higher is better, "
        "down: lower is better",
        dim=True,
    )
    empty = [s for s in scores.main if not any(summaries[m, s].n for m in scores.maskers)]
    if empty and not scores.failures():
        say(
            f"{escape(', '.join(empty))}: does not apply to these images; localization and "
            "pointing games need bounding boxes (--boxes), mosaics images of four classes"
        )
    _print_reasons(scores)


def print_by_class(scores: "workflows.Scores") -> None:
    """Print the mean of the first score of every metric by class, worst class of the first masker
    first.
    """
    for score in scores.main:
        lines = scores.by_class(score)
        cells = {(each.label_name, each.masker): each for each in lines}
        print_table(
            [f"{score}, by class", "n", *map(escape, scores.maskers)],
            [
                [
                    escape(name),
                    str(max(cells[key].n for key in cells if key[0] == name)),
                    *(
                        number(cells[name, masker].mean) if (name, masker) in cells else "-"
                        for masker in scores.maskers
                    ),
                ]
                for name in dict.fromkeys(each.label_name for each in lines)
            ],
        )
        say("")


def print_comparison(
    scores: "workflows.Scores", baseline: str, differences: Sequence[PairedDifference]
) -> None:
    """Print the differences in the first score of every metric."""
    known = {(each.masker, each.score): each for each in differences}
    others = [masker for masker in scores.maskers if masker != baseline]
    _print_columns(scores, others, lambda *key: _difference(known[key]))
    say(
        f"each minus {baseline!r} on the images that both have; bold: the 95% confidence interval "
        "excludes 0",
        dim=True,
    )


def _print_columns(
    scores: "workflows.Scores", maskers: Sequence[str], cell: Callable[[str, str], str]
) -> None:
    width = min(_MASKER_WIDTH, max(map(len, (*maskers, "masker"))))
    count = max(1, (console().width - width) // _CELL_WIDTH)
    for start in range(0, len(scores.main), count):
        names = scores.main[start : start + count]
        direction = {None: "", True: " up", False: " down"}
        print_table(
            ["masker", *(escape(n) + direction[scores.higher_is_better(n)] for n in names)],
            [[escape(masker), *(cell(masker, name) for name in names)] for masker in maskers],
        )
        say("")


def _print_reasons(scores: "workflows.Scores") -> None:
    """Print the most frequent reasons why rows lack scores."""
    reasons: dict[str, dict[str, int]] = {}
    for (masker, failure), count in scores.failures().items():
        reasons.setdefault(failure, {})[masker] = count
    for reason, counts in list(reasons.items())[:_MAX_REASONS]:
        who = "every masker" if len(counts) == len(scores.maskers) > 1 else ", ".join(counts)
        most = max(counts.values())
        say(f"{most} image{'s' if most > 1 else ''} without all scores of {who}: {reason}")
    if len(reasons) > _MAX_REASONS:
        say(f"... and {len(reasons) - _MAX_REASONS} more reasons, in rows.jsonl")


def _mean(summary: ScoreSummary, most: int) -> str:
    if not summary.n:
        return "-"
    text = number(summary.mean)
    if summary.low == summary.low:
        text += _interval(number(summary.low), number(summary.high))
    return text if summary.n == most else f"{text} [dim]n={summary.n}[/dim]"


def _difference(each: PairedDifference) -> str:
    if not each.n:
        return "-"
    text = f"{each.mean:+.3g}"
    if each.low != each.low:
        return text
    if each.low > 0 or each.high < 0:
        text = f"[bold]{text}[/bold]"
    return text + _interval(f"{each.low:+.3g}", f"{each.high:+.3g}")


def _interval(low: str, high: str) -> str:
    return f" [dim]\\[{low}, {high}][/dim]"
