"""The display of scores in notebooks: an HTML table that keeps the notebook's own colors."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from saliencykit.evaluation.score_summary import ScoreSummary
from saliencykit.visualization.html_page import number, plain, table

if TYPE_CHECKING:
    from saliencykit.evaluation.scores import Scores


def scores_html(scores: "Scores") -> str:
    """The first score of every metric: its mean with the interval below, the best mean in bold;
    the time; and the failures.

    Example:
        >>> from saliencykit.evaluation import Row
        >>> from saliencykit.evaluation import Scores
        >>> rows = [
        ...     Row(sample=str(i), index=i, masker="x", scores={"area": i / 2}) for i in range(2)
        ... ]
        >>> "0.25<br><small>0 … 0.5</small>" in scores_html(Scores(tuple(rows)))
        True
    """
    lines = {(line.masker, line.score): line for line in scores.table()}
    seconds, count = scores.seconds(), scores.num_images
    best = {name: best_maskers(scores, lines, name) for name in scores.main}
    rows = []
    for masker in scores.maskers:
        cells = [_cell(lines[masker, name], masker in best[name], count) for name in scores.main]
        time = "<0.001" if seconds[masker] < 0.001 else number(float(f"{seconds[masker]:.1g}"))
        rows.append([f"<div style='text-align:left'>{plain(masker)}</div>", *cells, plain(time)])
    shown = table(["method", *(heading(scores, name) for name in scores.main), "seconds"], rows)
    about = (
        f"Mean over {count} image{'' if count == 1 else 's'}, below it the 95% confidence interval "
        "(percentile bootstrap). ↑ higher is better, ↓ lower is better; bold: the best mean of a "
        "column, whatever its interval. Seconds: median time per image."
    )
    failures = "".join(
        f"<li>{count} by {plain(masker)}: {plain(why)}</li>"
        for (masker, why), count in scores.failures().items()
    )
    missing = f"<p><small>Missing scores:</small></p><ul>{failures}</ul>" if failures else ""
    return f"<div>{shown}<p><small>{about}</small></p>{missing}</div>"


def heading(scores: "Scores", name: str) -> str:
    """A column's name with an arrow for the direction that is better, as HTML."""
    arrow = {None: "", True: " ↑", False: " ↓"}[scores.higher_is_better(name)]
    return plain(name).replace("/", "/<wbr>") + arrow


def best_maskers(
    scores: "Scores", summaries: Mapping[tuple[str, str], ScoreSummary], name: str
) -> set[str]:
    """The maskers with the best mean of a score; none where the better direction is unknown."""
    better = scores.higher_is_better(name)
    means = {m: summaries[m, name].mean for m in scores.maskers if summaries[m, name].n}
    if better is None or not means:
        return set()
    best = (max if better else min)(means.values())
    return {masker for masker, mean in means.items() if mean == best}


def _cell(line: ScoreSummary, best: bool, count: int) -> str:
    if not line.n:
        return "\N{EN DASH}"
    mean = f"<b>{number(line.mean)}</b>" if best else number(line.mean)
    few = "" if line.n == count else f" (n {line.n})"
    if line.low != line.low:
        return mean + few
    return f"{mean}<br><small>{number(line.low)} … {number(line.high)}{few}</small>"
