"""The display of scores in notebooks: the table of the command line, as HTML that keeps the
notebook's own colours.
"""

from collections.abc import Mapping
from html import escape

from saliencykit.evaluation.scores import Scores, ScoreSummary
from saliencykit.visualization.html_page import number, table


def scores_html(scores: Scores) -> str:
    """The first score of every metric: its mean, the interval below, the best mean bold; the time;
    and what is missing.

    Example:
        >>> from saliencykit.evaluation.score_rows import Row
        >>> rows = tuple(Row(sample=str(i), index=i, masker="x", scores={"area": i / 2}) for i in range(2))
        >>> "0.25<br><small>0 … 0.5</small>" in scores_html(Scores(rows))
        True
    """
    lines = {(line.masker, line.score): line for line in scores.table()}
    seconds, pictures = scores.seconds(), len({row.index for row in scores.rows})
    best = {name: best_maskers(scores, lines, name) for name in scores.main}
    rows = []
    for masker in scores.maskers:
        cells = [_cell(lines[masker, name], masker in best[name], pictures) for name in scores.main]
        time = "<0.001" if seconds[masker] < 0.001 else number(float(f"{seconds[masker]:.1g}"))
        rows.append([f"<div style='text-align:left'>{escape(masker)}</div>", *cells, escape(time)])
    shown = table(["method", *(heading(scores, name) for name in scores.main), "seconds"], rows)
    about = (
        f"Mean over {pictures} picture{'' if pictures == 1 else 's'}, below it the 95 % bootstrap "
        "interval. ↑ higher is better, ↓ lower is better; bold: the best mean of a column, "
        "whatever its interval. Seconds: the median for one picture's mask."
    )
    reasons = "".join(
        f"<li>{count} by {escape(who)}: {escape(why)}</li>"
        for (who, why), count in scores.reasons().items()
    )
    missing = f"<p><small>Without all scores:</small></p><ul>{reasons}</ul>" if reasons else ""
    return f"<div>{shown}<p><small>{about}</small></p>{missing}</div>"


def heading(scores: Scores, name: str) -> str:
    """A column's name and an arrow for the better direction, as HTML."""
    better = scores.higher_is_better(name)
    arrow = "" if better is None else " ↑" if better else " ↓"
    return escape(name).replace("/", "/<wbr>") + arrow


def best_maskers(
    scores: Scores, summaries: Mapping[tuple[str, str], ScoreSummary], name: str
) -> set[str]:
    """The maskers with the best mean of a score; none where the better direction is unknown."""
    better = scores.higher_is_better(name)
    means = {m: summaries[m, name].mean for m in scores.maskers if summaries[m, name].n}
    if better is None or not means:
        return set()
    best = (max if better else min)(means.values())
    return {masker for masker, mean in means.items() if mean == best}


def _cell(line: ScoreSummary, best: bool, pictures: int) -> str:
    if not line.n:
        return "–"  # noqa: RUF001
    mean = f"<b>{number(line.mean)}</b>" if best else number(line.mean)
    few = "" if line.n == pictures else f" (n {line.n})"
    between = (
        f"<br><small>{number(line.low)} … {number(line.high)}{few}</small>"
        if line.low == line.low
        else few
    )
    return mean + between
