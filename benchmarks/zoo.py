"""The zoo's trained maskers beside methods that need no training, on every classifier of the data
folder.

    python -m benchmarks.results --model M --part tune --columns boxes --out ROWS/M-tune.jsonl
    python -m benchmarks.results --model M --part report --columns boxes --out ROWS/M-report.jsonl
    python -m benchmarks.results --model M --part tune --photos 120 --columns search \
        --out ROWS/M-search.jsonl
    python -m benchmarks.results --model M --few --columns areas regions curves \
        --out ROWS/M-areas.jsonl
    python -m benchmarks.encoding --model M --data ten --masker "trained masker=FILE" \
        --out ROWS/M-encoding.jsonl
    python -m benchmarks.zoo --rows ROWS --maskers FOLDER --into docs/results/five-classifiers.md

It prints what is there: localization error with the threshold that was best on the tuning rows, and
with half of the range, which no box was seen for; the saliency metric with the same search for
every method; kept less dropped probability under held-out fills, mean of five areas; areas of the
smallest sufficient and destroying regions, of photos where there is one; insertion and deletion;
the encoding probe; how the maskers were trained, as their files say. Differences are the trained
masker's value less the other method's on the same photos.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from math import isnan, nan
from pathlib import Path

from safetensors import safe_open

from benchmarks.columns import by_method, gap, missed, searched, size_group, tuned, under_curve
from benchmarks.data import MODELS
from benchmarks.localization import CUTS, HALF
from benchmarks.rows import Row, read_rows
from benchmarks.scoring import AREAS
from benchmarks.tables import put_into
from saliencykit.evaluation import interval

OURS = "trained masker"
_GROUPS = ("<.15", ".15-.4", ".4-.7", ">.7")

Value = Callable[[Row], float]


def localization(tune: list[Row], report: list[Row]) -> dict[str, list[str]]:
    """By method: cells of the table of localization errors."""
    methods, tuning = by_method([*report, *_learned(report)]), by_method([*tune, *_learned(tune)])
    choices = {name: tuned(tuning.get(name, [])) for name in methods}
    cells = {}
    for name, rows in methods.items():

        def at_best(row: Row, name: str = name) -> float:
            return 100 * choices[name].missed(row)

        def at_half(row: Row) -> float:
            return 100 * missed(row, "all", HALF)

        def best_of_ours(row: Row) -> float:
            return 100 * choices[OURS].missed(row)

        ours = methods.get(OURS, []) if name != OURS else []
        cells[name] = [
            f"{len(rows)}; {choices[name].count}",
            _mean(rows, at_best, 1),
            _difference(ours, best_of_ours, rows, at_best, 1),
            _mean(rows, at_half, 1),
            _difference(ours, at_half, rows, at_half, 1),
            _by_size(rows, at_best),
            _by_size(rows, at_half),
        ]
    return cells


def _learned(rows: list[Row]) -> list[Row]:
    """Rows of the boxes that a masker's own thresholds give, learned from boxes of the training
    part.
    """
    return [
        {**row, "method": f"{row['method']}, learned thresholds"}
        | {"overlap": {"all": [row["learned"]] * len(CUTS)}}
        for row in rows
        if "learned" in row
    ]


def compared(rows: list[Row], *values: Value) -> dict[str, list[str]]:
    """By method: for each value the number of photos that have it, its mean, and the trained
    masker's less it.
    """
    cells: dict[str, list[str]] = defaultdict(list)
    for value in values:
        methods = by_method(row for row in rows if not isnan(value(row)))
        for name, mine in methods.items():
            ours = methods.get(OURS, []) if name != OURS else []
            cells[name] += [
                str(len(mine)),
                _mean(mine, value, 3),
                _difference(ours, value, mine, value, 3),
            ]
    return cells


def five_areas(row: Row) -> float:
    """Kept less dropped probability under held-out fills, mean of the areas; NaN without them."""
    gaps = [gap(row, area) for area in AREAS] if "areas" in row else [nan]
    return sum(gaps) / len(gaps)


def sufficient(row: Row) -> float:
    """The area of the smallest sufficient region; NaN without one."""
    area = row.get("regions", [None])[0]
    return nan if area is None else area


def destroying(row: Row) -> float:
    """The area of the smallest destroying region; NaN without one."""
    area = row.get("regions", [None])[-1]
    return nan if area is None else area


def insertion(row: Row) -> float:
    """Area under the insertion curve; NaN without one."""
    return under_curve(row, "insertion")


def deletion(row: Row) -> float:
    """Area under the deletion curve; NaN without one."""
    return under_curve(row, "deletion")


def _by_size(rows: list[Row], value: Value) -> str:
    groups = [[value(row) for row in rows if size_group(row) == group] for group in range(4)]
    return " / ".join(f"{sum(some) / len(some):.0f}" if some else "-" for some in groups)


def _mean(rows: list[Row], value: Value, digits: int) -> str:
    middle, low, high = interval([value(row) for row in rows])
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _difference(ours: list[Row], own: Value, theirs: list[Row], other: Value, digits: int) -> str:
    mine = {row["photo"]: row for row in ours}
    gains = [own(mine[row["photo"]]) - other(row) for row in theirs if row["photo"] in mine]
    if not gains:
        return ""
    middle, low, high = interval(gains)
    return f"{middle:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def _table(head: str, by_model: dict[str, dict[str, list[str]]]) -> str:
    lines = [f"| classifier | method | {head} |", "|---" * (head.count("|") + 3) + "|"]
    for model, methods in by_model.items():
        names = sorted(methods, key=lambda name: not name.startswith(OURS))
        lines += [f"| {model} | {name} | {' | '.join(methods[name])} |" for name in names]
    return "\n".join(lines)


def encoding_table(probes: dict[str, list[Row]]) -> str:
    """How often a linear probe reads the class from masks, by classifier."""
    lines = [
        "| classifier | class that is explained | n | area | read from the mask, % [95 %] | from "
        "random masks of its values | difference |",
        "|---" * 7 + "|",
    ]
    lines += [
        f"| {model} | {row['photo']} | {row['n']} | {row['cells']} |"
        for model, rows in probes.items()
        for row in rows
    ]
    return "\n".join(lines)


def training_table(folder: Path) -> str:
    """How each masker of a folder was trained, from its file's metadata."""
    lines = [
        "| masker | late mixing / distillation / pixel steps | minutes | teacher; pastes | "
        "validation before and after distillation | boxes that miss, four folds: at 0.5 / chosen |",
        "|---" * 6 + "|",
    ]
    for file in sorted(folder.glob("*_masker.safetensors")):
        with safe_open(file, "pt") as stored:
            about = json.loads(stored.metadata()["saliencykit-masker"])["metadata"]
        training, score = about["training"], about["validation"]["score"]
        steps = [training["schedule"].get(f"{s}_steps", 0) for s in ("mixing", "distill", "pixel")]
        taught, cuts = training.get("distillation") or {}, training.get("box_threshold") or {}
        seconds = training.get("seconds")
        cells = [
            file.stem.removesuffix("_masker"),
            " / ".join(map(str, steps)),
            f"{seconds / 60:.0f}" if seconds else "-",
            f"{taught['teacher']}; {taught['pastes']}" if taught else "-",
            f"{taught['score before']:.3f}, {score:.3f}" if taught else f"{score:.3f}",
            f"{cuts['at_half']:.1%} / {cuts['chosen']:.1%}, {cuts['rows']} boxes" if cuts else "-",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def zoo_tables(folder: Path, maskers: Path | None = None) -> str:
    """All tables of the rows in a folder, and of the maskers in another."""

    def rows(part: str) -> dict[str, list[Row]]:
        found = {name: read_rows(folder / f"{name}-{part}.jsonl") for name in MODELS}
        return {name: some for name, some in found.items() if some}

    tune = rows("tune")
    boxes = {m: localization(tune.get(m, []), some) for m, some in rows("report").items()}
    search = {m: compared(some, searched) for m, some in rows("search").items()}
    few = rows("areas")
    areas = {m: compared(some, five_areas) for m, some in few.items()}
    regions = {m: compared(some, sufficient, destroying) for m, some in few.items()}
    curves = {m: cells for m, some in few.items() if (cells := compared(some, insertion, deletion))}
    sizes = " / ".join(_GROUPS)
    head = (
        "n; tuned on | error, %, tuned threshold [95 %] | ours less it | error, %, no boxes "
        f"[95 %] | ours less it | by size of the object, tuned: {sizes} | no boxes: {sizes}"
    )
    parts = {
        "Localization error": (head, boxes),
        "Saliency metric, the same search of 8 areas for every method, tuning photos": (
            "n | mean, lower is better [95 %] | ours less it",
            search,
        ),
        "Kept minus dropped, held-out fills, mean of five areas": (
            "n | mean, higher is better [95 %] | ours less it",
            areas,
        ),
        "How much is enough, and how much must go: area of the smallest region, blur": (
            "n | sufficient (keeps 90 % of p), mean, lower is better [95 %] | ours less it "
            "| n | destroying (leaves 10 %) [95 %] | ours less it",
            regions,
        ),
        "Insertion and deletion": (
            "n | insertion, higher is better [95 %] | ours less it | n | deletion, lower is better "
            "[95 %] | ours less it",
            curves,
        ),
    }
    texts = {name: _table(*part) for name, part in parts.items() if part[1]}
    if probes := rows("encoding"):
        texts["The encoding probe"] = encoding_table(probes)
    if maskers is not None:
        texts["How the maskers were trained"] = training_table(maskers)
    return "\n\n".join(f"### {name}\n\n{text}" for name, text in texts.items())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=Path, required=True, help="folder of the files of rows")
    parser.add_argument("--maskers", type=Path, help="folder of `NAME_masker.safetensors`")
    parser.add_argument(
        "--into", type=Path, help="also put it between <!-- zoo --> and <!-- end of zoo --> here"
    )
    arguments = parser.parse_args()
    text = zoo_tables(arguments.rows, arguments.maskers)
    print(text)
    if arguments.into:
        put_into(arguments.into, "zoo", text)


if __name__ == "__main__":
    main()
