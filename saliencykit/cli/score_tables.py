"""What the command line shows of an evaluation: a bar with the time left, the table, comparisons,
reasons.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from saliencykit.cli.console import counting_bar
from saliencykit.evaluation.score_rows import Row
from saliencykit.evaluation.scores import PairedDifference, Scores, ScoreSummary
from saliencykit.visualization.html_page import number

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH = 19  # of a column, `-0.123 [-0.456 -0.789]` with its gap
_REASONS = 5


@contextmanager
def evaluating_bar(to: "Console") -> "Iterator[Callable[[Row, int, int | None], None]]":
    """A bar of finished rows, with the masker that is asked."""
    with counting_bar(to, "rows", every=100) as advance:
        yield lambda row, done, total: advance(done, total, row.masker)


def scores_table(scores: Scores, to: "Console") -> None:
    """The first score of every metric: its mean and the interval; and what is missing."""
    lines = {(line.masker, line.score): line for line in scores.table()}
    most = max([line.n for line in lines.values()], default=0)
    _grids(
        to,
        scores,
        scores.main,
        scores.maskers,
        lambda masker, name: _cell(lines[masker, name], most),
    )
    pictures = len({row.index for row in scores.rows})
    over = f"{most} of {pictures}" if most < pictures else f"{pictures}"
    to.print(
        f"[dim]mean and bootstrap 95 % interval over {over} pictures; up: higher is better, down: "
        "lower[/dim]",
        soft_wrap=True,
    )
    reasons_lines(scores, to)


def comparison_table(
    scores: Scores, against: str, differences: Sequence[PairedDifference], to: "Console"
) -> None:
    """The differences in the first score of every metric, picture by picture; bold where the
    interval leaves out 0.
    """
    found = {(each.masker, each.score): each for each in differences}
    others = [masker for masker in scores.maskers if masker != against]
    _grids(to, scores, scores.main, others, lambda masker, name: _difference(found[masker, name]))
    to.print(
        f"[dim]each less {against!r} on the pictures that both have; bold: the 95 % interval "
        "leaves out 0[/dim]",
        soft_wrap=True,
    )


def reasons_lines(scores: Scores, to: "Console") -> None:
    """Why rows lack scores, the most frequent reasons."""
    from rich.markup import escape

    grouped: dict[str, dict[str, int]] = {}
    for (masker, reason), count in scores.reasons().items():
        grouped.setdefault(reason, {})[masker] = count
    for reason, counts in list(grouped.items())[:_REASONS]:
        who = "every masker" if len(counts) == len(scores.maskers) > 1 else ", ".join(counts)
        most = max(counts.values())
        to.print(
            f"{most} picture{'s' if most > 1 else ''} without all scores by {escape(who)}: "
            f"{escape(reason)}",
            soft_wrap=True,
        )
    if len(grouped) > _REASONS:
        to.print(f"... and {len(grouped) - _REASONS} more reasons, in the rows", soft_wrap=True)


def _grids(
    to: "Console",
    scores: Scores,
    names: Sequence[str],
    maskers: Sequence[str],
    cell: Callable[[str, str], str],
) -> None:
    """As many tables as the width asks for."""
    from rich.markup import escape
    from rich.table import Table

    first = max([len(masker) for masker in maskers] + [6])
    room = max(1, (to.width - min(first, 30)) // (_WIDTH + 2))
    for start in range(0, len(names), room):
        grid = Table(box=None, header_style="bold", pad_edge=False)
        grid.add_column("masker", overflow="fold", max_width=30)
        for name in names[start : start + room]:
            better = scores.higher_is_better(name)
            grid.add_column(
                f"{escape(name)} {'' if better is None else 'up' if better else 'down'}",
                justify="right",
            )
        for masker in maskers:
            grid.add_row(
                escape(masker), *(cell(masker, name) for name in names[start : start + room])
            )
        to.print(grid)
        to.print()


def _cell(line: ScoreSummary, most: int) -> str:
    if not line.n:
        return "-"
    text = number(line.mean)
    if line.low == line.low:
        text += f" [dim]{number(line.low)} {number(line.high)}[/dim]"
    return text if line.n == most else f"{text} [dim]n={line.n}[/dim]"


def _difference(each: PairedDifference) -> str:
    if not each.n:
        return "-"
    text = f"{each.mean:+.3g}"
    if each.low != each.low:
        return text
    sure = each.low > 0 or each.high < 0
    return f"{f'[bold]{text}[/bold]' if sure else text} [dim]{each.low:+.3g} {each.high:+.3g}[/dim]"
