"""Markdown tables of rows, with the thresholds that the tuning rows chose: all photos, the few,
differences, seeds.
"""

import re
from collections.abc import Callable
from math import isnan
from pathlib import Path
from statistics import mean, median

from benchmarks.columns import (
    Tuned,
    at_area,
    by_method,
    crop_facts,
    gap,
    graded,
    metric,
    missed,
    right,
    size_group,
    tuned,
    under_curve,
)
from benchmarks.localization import CROPS, CUTS, HALF, MODES
from benchmarks.rows import Row
from benchmarks.scoring import AREAS, FILLS, SOME_AREAS, UNSEEN
from saliencykit.evaluation import interval, standard_error

_SIZES = ("<.15", ".15-.4", ".4-.7", ">.7")
Value = Callable[[Row, Tuned], float]
Methods = dict[str, list[Row]]

COMPARED: dict[str, tuple[Value, float]] = {
    "localization error, %": (lambda row, choice: choice.missed(row), 100),
    "at half of the range": (lambda row, choice: missed(row, "all", HALF), 100),
    "objects <.15": (
        lambda row, choice: choice.missed(row) if size_group(row) == 0 else float("nan"),
        100,
    ),
    "saliency metric": (lambda row, choice: metric(row, "all", choice.crop["all"]), 1),
    "kept - dropped, unseen, best 20 %": (lambda row, choice: gap(row, 0.2), 1),
    "the same, mean of five areas": (lambda row, choice: mean(gap(row, area) for area in AREAS), 1),
    "insertion": (lambda row, choice: under_curve(row, "insertion"), 1),
    "deletion": (lambda row, choice: under_curve(row, "deletion"), 1),
}
"""Columns of the differences and of the seeds, with the unit that they are printed in. NaN: not on
this photo.
"""


def tables(tune: list[Row], report: list[Row], ours: list[str]) -> str:
    """All the tables of what is in the rows."""
    tuning = by_method(tune)
    choices = {method: tuned(tuning.get(method, [])) for method in by_method(report)}
    few = [row for row in report if row["few"]]
    wide = {
        method for method, rows in by_method(report).items() if any(not row["few"] for row in rows)
    }
    parts = []
    if wide:
        parts.append(
            _section(
                "All photos of the reporting part",
                [row for row in report if row["method"] in wide],
                choices,
            )
        )
    if few:
        parts += [_section("The few photos, all methods", few, choices)] + (
            [_curves(few)] if "graded" in few[0] else []
        )
    for method in ours:
        parts.append(_differences(report, choices, method))
    if seeds := _seeds(report, choices):
        parts.append(seeds)
    return "\n\n".join(parts)


def _section(title: str, rows: list[Row], choices: dict[str, Tuned]) -> str:
    methods = by_method(rows)
    photos = list({row["photo"]: row for row in rows}.values())
    parts = [_localization(methods, choices, photos), _saliency(methods, choices)]
    if "graded" in rows[0]:
        parts += [_evidence(methods), _confusion(methods)]
    return "\n\n".join([f"### {title}: {len(photos)}", *parts])


def _localization(methods: Methods, choices: dict[str, Tuned], photos: list[Row]) -> str:
    groups = [sum(size_group(row) == group for row in photos) for group in range(len(_SIZES))]
    sizes = " / ".join(f"{name} ({count})" for name, count in zip(_SIZES, groups, strict=True))
    lines = [
        "Localization error, %, ± its standard error. The classifier gets "
        f"{sum(map(right, photos))} of the photos right. By size, right and wrong: with the box "
        "rule, all pixels or largest component, that was the better one on the tuning photos.",
        "",
        "| method | n | all pixels | largest component | half range: all / largest | "
        f"by size of the object: {sizes} | right / wrong | thresholds; tuned on |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method, mine in methods.items():
        choice = choices[method]
        each = [_percent([missed(row, mode, choice.cut[mode]) for row in mine]) for mode in MODES]
        half = [[missed(row, mode, HALF) for row in mine] for mode in MODES]
        size = [
            [choice.missed(row) for row in mine if size_group(row) == group]
            for group in range(len(_SIZES))
        ]
        answered = [
            [choice.missed(row) for row in mine if right(row) == answer] for answer in (True, False)
        ]
        shown = ((half, 1), (size, 0), (answered, 1))
        cells = [
            " / ".join(f"{_mean(some, 100):.{digits}f}" for some in group)
            for group, digits in shown
        ]
        cuts = "; ".join(" ".join(map(str, CUTS[choice.cut[mode]])) for mode in MODES)
        lines.append(
            f"| {method} | {len(mine)} | {' | '.join([*each, *cells])} | {cuts}; {choice.count} |"
        )
    return "\n".join(lines)


def _saliency(methods: Methods, choices: dict[str, Tuned]) -> str:
    lines = [
        "Saliency metric, lower is better; the right half with the box around the largest "
        "component only.",
        "",
        "| method | n | mean ± se | median | crop accuracy, % | crop area | threshold | largest: "
        "mean ± se | median | threshold |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for method, mine in methods.items():
        cells = []
        for mode in MODES:
            crop = choices[method].crop[mode]
            values = [metric(row, mode, crop) for row in mine]
            facts = [crop_facts(row, mode, crop) for row in mine]
            cells += [f"{mean(values):.3f} ± {standard_error(values):.3f}", f"{median(values):.3f}"]
            if mode == "all":
                cells += [
                    f"{_mean([hit for _, hit in facts], 100):.1f}",
                    f"{_mean([area for area, _ in facts]):.2f}",
                ]
            cells.append(" ".join(map(str, CROPS[crop])))
        lines.append(f"| {method} | {len(mine)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _evidence(methods: Methods) -> str:
    fills, area = " / ".join(FILLS), SOME_AREAS[0]
    lines = [
        "Probability of the class: what the mask as it is keeps and drops, and its best "
        f"{area:.0%} of the pixels; unseen: mean of {' and '.join(UNSEEN)}.",
        "",
        f"| method | n | area | kept: {fills} | dropped: {fills} | kept - dropped, unseen | best "
        f"{area:.0%}, unseen: kept | dropped | kept - dropped ± se | best, blur: kept - dropped |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for method, mine in methods.items():
        sides = [
            " / ".join(
                f"{_mean([graded(row, [fill], side) for row in mine]):.3f}" for fill in FILLS
            )
            for side in (0, 1)
        ]
        net = _mean([graded(row, UNSEEN, 0) - graded(row, UNSEEN, 1) for row in mine])
        kept, dropped = (_mean([at_area(row, area, side) for row in mine]) for side in (0, 1))
        gaps, blurred = (
            [gap(row, area) for row in mine],
            _mean([gap(row, area, ["blur"]) for row in mine]),
        )
        equal = (
            f"{kept:.3f} | {dropped:.3f} | {_mean(gaps):.3f} ± {standard_error(gaps):.3f} | "
            f"{blurred:.3f}"
        )
        equal = "- | - | - | -" if isnan(blurred) else equal
        shown = _mean([row["area"] for row in mine])
        lines.append(
            f"| {method} | {len(mine)} | {shown:.3f} | {sides[0]} | {sides[1]} | {net:.3f} | "
            f"{equal} |"
        )
    return "\n".join(lines)


def _confusion(methods: Methods) -> str:
    lines = [
        "Queried for a random other class: the mask's area, and how alike both masks are "
        "(correlation over pixels).",
        "",
    ]
    lines += [
        "| method | n | area, own class | area, other class | ratio | correlation |",
        "|---|---|---|---|---|---|",
    ]
    for method, rows in methods.items():
        if mine := [row for row in rows if "other_area" in row]:
            own, other = (_mean([row[key] for row in mine]) for key in ("area", "other_area"))
            close_to_rounding = _mean([row["other_alike"] for row in mine])
            lines.append(
                f"| {method} | {len(mine)} | {own:.3f} | {other:.3f} | "
                f"{other / own if own else 0:.2f} | {close_to_rounding:.2f} |"
            )
    return "\n".join(lines)


def _curves(rows: list[Row]) -> str:
    names = " / ".join(f"{area:.0%}" for area in AREAS)
    lines = [
        f"At equal areas ({names} of the pixels), and areas under the curves: insertion on the "
        "blurred photo, deletion to gray.",
        "",
        "| method | n | kept, unseen | dropped, unseen | kept - dropped, unseen: mean of areas ± "
        "se | kept, blur | dropped, blur | insertion ± se | deletion ± se |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for method, mine in by_method(row for row in rows if "insertion" in row).items():
        cells = [
            " / ".join(
                f"{_mean([at_area(row, area, side, fills) for row in mine]):.3f}" for area in AREAS
            )
            for fills in (UNSEEN, ["blur"])
            for side in (0, 1)
        ]
        gaps = [mean(gap(row, area) for area in AREAS) for row in mine]
        cells.insert(2, f"{_mean(gaps):.3f} ± {standard_error(gaps):.3f}")
        for name in ("insertion", "deletion"):
            values = [under_curve(row, name) for row in mine]
            cells.append(f"{_mean(values):.3f} ± {standard_error(values):.3f}")
        lines.append(f"| {method} | {len(mine)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _differences(rows: list[Row], choices: dict[str, Tuned], ours: str) -> str:
    """`ours` less the others on the photos that both have, with the bootstrap 95 % interval."""
    methods = by_method(rows)
    lines = [
        f"### {ours} less the other method, paired",
        "",
        "Mean difference [95 % interval, 10,000 draws of the photos], n. Less is better but for "
        "kept - dropped and insertion.",
        "",
        f"| other | {' | '.join(COMPARED)} |",
        "|---" * (len(COMPARED) + 1) + "|",
    ]
    mine = {row["photo"]: row for row in methods.get(ours, [])}
    for other, theirs in methods.items():
        if other != ours:
            cells = []
            both = [(mine[row["photo"]], row) for row in theirs if row["photo"] in mine]
            for value, unit in COMPARED.values():
                gains = [
                    unit * (value(one, choices[ours]) - value(two, choices[other]))
                    for one, two in both
                ]
                cells.append(
                    _gain([gain for gain in gains if not isnan(gain)], 1 if unit == 100 else 3)
                )
            lines.append(f"| {other} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _seeds(rows: list[Row], choices: dict[str, Tuned]) -> str:
    """Mean over NAME-s0, NAME-s1, ... and the range from the lowest to the highest."""
    methods = by_method(rows)
    names = dict.fromkeys(
        found[1] for method in methods if (found := re.fullmatch(r"(.+)-s\d+", method))
    )
    lines = [
        "### Over training seeds: mean [lowest, highest]",
        "",
        f"| method | seeds | n | {' | '.join(COMPARED)} |",
    ]
    lines.append("|---" * (len(COMPARED) + 3) + "|")
    for name in names:
        seeds = [method for method in methods if re.fullmatch(rf"{re.escape(name)}-s\d+", method)]
        cells = []
        for value, unit in COMPARED.values():
            means = [
                _mean([value(row, choices[seed]) for row in methods[seed]], unit) for seed in seeds
            ]
            digits = 1 if unit == 100 else 3
            known = not any(map(isnan, means))
            cells.append(
                f"{mean(means):.{digits}f} [{min(means):.{digits}f}, {max(means):.{digits}f}]"
                if known
                else "-"
            )
        lines.append(
            f"| {name} | {len(seeds)} | {min(len(methods[seed]) for seed in seeds)} | "
            f"{' | '.join(cells)} |"
        )
    return "\n".join(lines) if names else ""


def _mean(values: list[float], unit: float = 1) -> float:
    """Over the photos that have the value; NaN if none has."""
    there = [value for value in values if not isnan(value)]
    return unit * mean(there) if there else float("nan")


def _gain(gains: list[float], digits: int) -> str:
    if not gains:
        return "-"
    middle, low, high = interval(gains)
    return f"{middle:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}], {len(gains)}"


def _percent(values: list[float]) -> str:
    return f"{100 * mean(values):.1f} ± {100 * standard_error(values):.1f}"


def put_into(page: Path, tag: str, text: str) -> None:
    """Replace what stands between `<!-- tag -->` and `<!-- end of tag -->` of a markdown page."""
    begin, end = f"<!-- {tag} -->", f"<!-- end of {tag} -->"
    before, rest = page.read_text().split(begin)
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}")
