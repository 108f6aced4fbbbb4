"""The paper's two tables, remade: localization error and saliency metric of each method beside the
paper's figures.

    python -m benchmarks.paper --tune tune.jsonl --out report.jsonl --into
    docs/results/paper-tables.md --tag mobilenet

The rows come from `benchmarks.results --columns boxes crops`. Thresholds and the box rule (all
pixels, or the largest component) of each method are those that were best on the tuning rows; the
saliency metric crops to all pixels above its threshold, as published. "Best of 8 areas" is the
metric with the same search for every method: on each photo, the best of the crops around the
largest component of the best 3 to 60 % of the pixels (`--columns search`).
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.columns import Tuned, by_method, crop_facts, metric, right, searched, tuned
from benchmarks.rows import Row, read_rows
from benchmarks.tables import put_into
from saliencykit.evaluation import interval

PAPER: dict[str, tuple[float | None, float | None]] = {
    "ground-truth": (None, 0.284),
    "whole-image": (59.7, 1.366),
    "center-box": (46.3, 0.645),
    "gradient": (41.7, 0.451),
    "guided-backprop": (42.0, None),
    "excitation-backprop": (39.0, 0.415),
    "cam": (48.1, None),
    "occlusion": (48.6, None),
    "meaningful-perturbation": (43.1, None),
    "excitation-backprop blurred": (None, None),
    "trained masker": (36.9, 0.318),
}
"""Localization error in % and saliency metric with GoogLeNet on ILSVRC's 50,000 validation photos
(Dabkowski & Gal 2017, tables 1 and 2, and for occlusion, mean threshold, the repository of Fong &
Vedaldi 2017); in the paper's order.
"""

OURS = "trained masker"


def paper_tables(tune: list[Row], report: list[Row]) -> str:
    """Both tables in one, of all photos and of the few on which every method was run."""
    tuning, methods = by_method(tune), by_method(report)
    choices = {name: tuned(tuning.get(name, [])) for name in methods}
    wide = {name: rows for name, rows in methods.items() if any(not row["few"] for row in rows)}
    photos = list({row["photo"]: row for row in report}.values())
    parts = []
    if wide:
        parts += [
            f"**All photos** ({len(photos)}; the classifier is right for "
            f"{sum(map(right, photos))}).",
            _table(wide, choices),
        ]
    few = by_method(row for row in report if row["few"])
    some = list({row["photo"]: row for rows in few.values() for row in rows}.values())
    parts += [
        f"**The few photos, every method** ({len(some)}; the classifier is right for "
        f"{sum(map(right, some))}).",
        _table(few, choices),
    ]
    return "\n\n".join(parts)


def _table(methods: dict[str, list[Row]], choices: dict[str, Tuned]) -> str:
    lines = [
        "| method | n | localization error, % [95 %] | the paper's | saliency metric [95 %] | "
        f"the paper's | median | crop accuracy, % | error less the {OURS}'s | "
        f"metric less the {OURS}'s | tuned on | best of 8 areas |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    ours = {row["photo"]: row for row in methods.get(OURS, [])}
    for name in sorted(methods, key=list(PAPER).index):
        rows, choice = methods[name], choices[name]

        def errs(row: Row, choice: Tuned = choice) -> float:
            return 100 * choice.missed(row)

        def crops(row: Row, choice: Tuned = choice) -> float:
            return metric(row, "all", choice.crop["all"])

        def ours_errs(row: Row) -> float:
            return 100 * choices[OURS].missed(row)

        def ours_crops(row: Row) -> float:
            return metric(row, "all", choices[OURS].crop["all"])

        values = [crops(row) for row in rows]
        hits = [crop_facts(row, "all", choice.crop["all"])[1] for row in rows]
        error, paper = (
            interval([errs(row) for row in rows]),
            [_known(value) for value in PAPER[name]],
        )
        cells = [
            f"{error[0]:.1f} [{error[1]:.1f}, {error[2]:.1f}]",
            paper[0],
            _cell(interval(values), 3),
            paper[1],
        ]
        found = [value for value in map(searched, rows) if value == value]
        search = _cell(interval(found), 3) if found else "-"
        cells += [f"{median(values):.3f}", f"{100 * sum(hits) / len(hits):.1f}"]
        both = (
            [(row, ours[row["photo"]]) for row in rows if row["photo"] in ours]
            if name != OURS
            else []
        )
        cells += [
            _gain(both, errs, ours_errs, 1),
            _gain(both, crops, ours_crops, 3),
            str(choice.count),
            search,
        ]
        lines.append(f"| {name} | {len(rows)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _known(value: float | None) -> str:
    return "-" if value is None else str(value)


def _cell(values: tuple[float, float, float], digits: int) -> str:
    return f"{values[0]:.{digits}f} [{values[1]:.{digits}f}, {values[2]:.{digits}f}]"


def _gain(
    both: list[tuple[Row, Row]],
    theirs: Callable[[Row], float],
    ours: Callable[[Row], float],
    digits: int,
) -> str:
    if not both:
        return "-"
    middle, low, high = interval([theirs(row) - ours(own) for row, own in both])
    return f"{middle:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tune", type=Path, required=True, help="the rows of the tuning part")
    parser.add_argument("--out", type=Path, required=True, help="the rows of the reporting part")
    parser.add_argument(
        "--into", type=Path, help="also put it between the two comments of this markdown page"
    )
    parser.add_argument(
        "--tag",
        default="paper",
        help="with --into: the comments are <!-- TAG --> and <!-- end of TAG -->",
    )
    arguments = parser.parse_args()
    text = paper_tables(read_rows(arguments.tune), read_rows(arguments.out))
    print(text)
    if arguments.into:
        put_into(arguments.into, arguments.tag, text)


if __name__ == "__main__":
    main()
