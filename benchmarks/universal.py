r"""The universal masker on classifiers that its network has never seen, beside what they offer
themselves.

    python -m benchmarks.universal --model squeezenet --network left-out.safetensors \
        --columns areas --out rows/squeezenet-areas.jsonl
    python -m benchmarks.universal --model squeezenet --network left-out.safetensors \
        --columns boxes --out rows/squeezenet-boxes.jsonl
    python -m benchmarks.universal --table rows/*.jsonl --into docs/results/universal.md

The same command resumes a file of rows. `areas`: kept and dropped probability of the best 5, 10,
20, 30 and 50 % of the pixels, with the two held-out fills, on the first photos of the report part.
`boxes`: those of the mask at many thresholds, and the mask's area for this and for another class,
on photos of the tuning part, which choose each method's threshold, and of the report part, which
are counted. The true class is explained. Grad-CAM of a head that pools is CAM up to a factor, so it
has no row of its own. `trained` is the masker that was trained for this classifier.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

import torch
from torch import Generator

from benchmarks.data import MODELS, Photo
from benchmarks.localization import CUTS, HALF, MODES, best_overlap, boxes_of
from benchmarks.results import black_boxes, other_class
from benchmarks.rows import Row, append, read_rows
from benchmarks.scoring import AREAS, UNSEEN, Scorer
from benchmarks.split import Record, part, read
from benchmarks.tables import put_into
from saliencykit.core import BlackBox, Masker
from saliencykit.evaluation import interval
from saliencykit.maskers import Cam, Universal
from saliencykit.registry import trained_masker

SCALES = (1.0, 10 / 7, 2.0)
LARGER = "CAM at three sizes"
OURS = "universal"
FINER = "universal of CAM at three sizes"
TAKEN = 0.5  # overlap of a box that is right
Rows = Mapping[str, Mapping[str, Row]]
"""By method, by photo."""


def maskers(black_box: BlackBox, network: Path | None) -> dict[str, Masker]:
    """The methods by name."""
    methods: dict[str, Masker] = {
        "CAM": Cam(),
        OURS: Universal(network=network),
        LARGER: Cam(scales=SCALES),
        FINER: Universal(network=network, evidence=Cam(scales=SCALES)),
    }
    trained = trained_masker(black_box)
    return methods if trained is None else methods | {"trained": trained.bound_to(black_box)}


def evidence_row(masker: Masker, black_box: BlackBox, photo: Photo, score: Scorer) -> Row:
    """Kept and dropped probabilities at equal areas, and the seconds of the mask."""
    start = time.process_time()
    labels = torch.tensor([photo.label])
    output = masker.attribute(black_box, photo.image, labels, generator=Generator().manual_seed(0))
    seconds = time.process_time() - start
    places = score.places(output.mask if output.attributions is None else output.attributions)
    assert places is not None, f"a flat map: {photo.name}"
    areas = score.at_areas(places, AREAS, UNSEEN)
    return {"seconds": round(seconds, 4), "areas": areas, "p": round(score.whole, 4)}


def box_row(masker: Masker, black_box: BlackBox, photo: Photo, entry: Record) -> Row:
    """The boxes of one mask, its area, and that of the mask for another class."""
    mask, other = (
        masker(black_box, photo.image, torch.tensor([k]), generator=Generator().manual_seed(0))
        for k in (entry.label, other_class(entry))
    )
    truth = photo.boxes.numpy()
    overlap = {
        mode: [round(best_overlap(box, truth), 3) for box in boxes]
        for mode, boxes in boxes_of(mask[0, 0].numpy()).items()
    }
    areas = {"area": round(float(mask.mean()), 4), "other_area": round(float(other.mean()), 4)}
    return {"overlap": overlap, "part": entry.part, "object": round(entry.object_area, 4)} | areas


def run(arguments: argparse.Namespace) -> None:
    """Append the rows that are not there yet."""
    forms = black_boxes(arguments.model)
    methods = maskers(forms.own, arguments.network)
    chosen = {name: methods[name] for name in arguments.methods or methods if name in methods}
    done = {(row["photo"], row["method"]) for row in read_rows(arguments.out)}
    plan = part("report")[: arguments.scored]
    if arguments.columns == "boxes":
        plan = part("tune")[: arguments.tuned] + part("report")[: arguments.counted]
    for number, entry in enumerate(plan):
        left = [name for name in chosen if (entry.name, name) not in done]
        if not left:
            continue
        (photo,) = read([entry], forms.own)
        score = Scorer(forms.quick, photo) if arguments.columns == "areas" else None
        for name in left:
            row = {"photo": entry.name, "method": name, "model": arguments.model}
            given = (chosen[name], forms.own, photo)
            row |= box_row(*given, entry) if score is None else evidence_row(*given, score)
            append(arguments.out, row)
        print(f"\r{number + 1} of {len(plan)}", end="", file=sys.stderr)


def by_model(files: Sequence[Path]) -> dict[str, Rows]:
    """The rows of all files, those of one photo and method joined."""
    found: dict[str, dict[str, dict[str, Row]]] = {name: {} for name in MODELS}
    for file in files:
        for row in read_rows(file):
            photos = found.setdefault(row["model"], {}).setdefault(row["method"], {})
            photos[row["photo"]] = photos.get(row["photo"], {}) | row
    return {model: rows for model, rows in found.items() if rows}


def gap(row: Row) -> float:
    """Kept minus dropped probability, mean of the areas and held-out fills."""
    return mean(kept - dropped for kept, dropped in row["areas"].values())


def gaps(rows: Mapping[str, Row]) -> dict[str, float]:
    """By photo."""
    return {photo: gap(row) for photo, row in rows.items() if "areas" in row}


def evidence_table(files: Sequence[Path], method: str = OURS) -> str:
    """Markdown: kept minus dropped, and what a method has more on the same photos."""
    lines = [
        f"| left out | photos | CAM | CAM at 224, 320, 448 px | trained for it | {method} | more "
        "than CAM | than CAM at three sizes | than the trained one |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for model, rows in by_model(files).items():
        found = {name: gaps(rows.get(name, {})) for name in ("CAM", LARGER, "trained", method)}
        if not (ours := found[method]):
            continue
        cells = [f"{mean(g.values()):.3f}" if g else "" for g in found.values()]
        for name in ("CAM", LARGER, "trained"):
            both = [ours[photo] - value for photo, value in found[name].items() if photo in ours]
            cells.append(difference(both, 1, 3) if both else "")
        lines.append(f"| {' | '.join([model, str(len(ours)), *cells])} |")
    return "\n".join(lines)


def box_table(files: Sequence[Path], method: str = OURS) -> str:
    """Markdown: localization errors, and areas of the masks of another class."""
    lines = [
        f"| left out | photos | localization error, %: CAM | {method} | lower by | at half the "
        f"range: CAM | {method} | area: CAM | {method} | another class's, of its own: CAM | "
        f"{method} |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for model, every in by_model(files).items():
        rows = [
            {photo: row for photo, row in every.get(name, {}).items() if "overlap" in row}
            for name in ("CAM", method)
        ]
        if not all(rows):
            continue
        cam, ours = (errors_of(each)[0] for each in rows)
        both = [photo for photo in ours if photo in cam]
        cells = [model, str(len(both))]
        cells += [f"{100 * mean(each[photo] for photo in both):.1f}" for each in (cam, ours)]
        cells.append(difference([cam[photo] - ours[photo] for photo in both], 100, 1))
        cells += [
            f"{100 * mean(missed(each[photo], 'all', HALF) for photo in both):.0f}" for each in rows
        ]
        cells += [f"{mean(each[photo]['area'] for photo in both):.2f}" for each in rows]
        for each in rows:
            other, own = (sum(each[p][key] for p in both) for key in ("other_area", "area"))
            cells.append(f"{other / own:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def missed(row: Row, mode: str, cut: int) -> float:
    """1 where the box is wrong."""
    return float(row["overlap"][mode][cut] < TAKEN)


def errors_of(rows: Mapping[str, Row]) -> tuple[dict[str, float], str]:
    """By report photo whether the box is wrong, at the threshold that is best on the tuning photos;
    and that threshold.
    """
    tune = [row for row in rows.values() if row["part"] == "tune"]
    every = [(mode, cut) for mode in MODES for cut in range(len(CUTS))]
    mode, cut = min(every, key=lambda one: mean(missed(row, *one) for row in tune))
    rule, level = CUTS[cut]
    report = {name: row for name, row in rows.items() if row["part"] == "report"}
    return {p: missed(row, mode, cut) for p, row in report.items()}, f"{rule} {level:g}, {mode}"


def difference(values: list[float], unit: float, digits: int) -> str:
    """The mean with its interval."""
    middle, low, high = interval([unit * value for value in values])
    return f"{middle:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=list(MODELS), default="mobilenet_v2")
    parser.add_argument("--network", type=Path, help="a file; default: the one that ships")
    parser.add_argument("--methods", nargs="+", help="default: all")
    parser.add_argument("--columns", choices=["areas", "boxes"], default="areas")
    parser.add_argument("--scored", type=int, default=100, help="report photos with probabilities")
    parser.add_argument("--tuned", type=int, default=60)
    parser.add_argument("--counted", type=int, default=120, help="report photos with boxes")
    parser.add_argument("--out", type=Path, default=Path("universal.jsonl"))
    parser.add_argument("--table", nargs="+", type=Path, help="files of rows: print the tables")
    parser.add_argument("--into", type=Path, help="a page: put them between its comments too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        run(arguments)
        return
    tables = {
        "evidence": evidence_table(arguments.table),
        "finer": evidence_table(arguments.table, FINER),
        "boxes": box_table(arguments.table),
        "finer-boxes": box_table(arguments.table, FINER),
    }
    for tag, text in tables.items():
        print(text, end="\n\n")
        if arguments.into:
            put_into(arguments.into, tag, text)


if __name__ == "__main__":
    main()
