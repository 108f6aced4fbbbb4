r"""The universal masker on a classifier that its network has never seen, beside what it offers
itself.

    python -m benchmarks.universal --model squeezenet --network left-out.safetensors \
        --out rows/squeezenet.jsonl
    python -m benchmarks.universal --table rows/*.jsonl

One file of rows for each classifier; the same command resumes it. Photos of the tuning part choose
each method's threshold for boxes, those of the report part are counted. The true class is
explained. The first photos of the report part have kept and dropped probabilities too: of the best
5, 10, 20, 30 and 50 % of the pixels, with the two held-out fills. Grad-CAM of a head that pools is
CAM up to a factor, so it has no row of its own. `trained` is the masker that was trained for this
classifier, where there is one.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import mean

import torch
from torch import Generator

from benchmarks.data import MODELS, Photo
from benchmarks.localization import CUTS, MODES, best_overlap, boxes_of
from benchmarks.results import black_boxes, other_class
from benchmarks.rows import Row, append, read_rows
from benchmarks.scoring import AREAS, UNSEEN, Scorer
from benchmarks.split import Record, part, read
from saliencykit.core import BlackBox, Masker
from saliencykit.evaluation import interval
from saliencykit.maskers import Cam, ExcitationBackprop, Universal
from saliencykit.registry import trained_masker

SCALES = (1.0, 10 / 7, 2.0)
SLOW = ("multi-scale CAM", "excitation backprop, blurred")
"""Only on the photos whose probabilities are counted."""
TAKEN = 0.5  # overlap of a box that is right


def maskers(black_box: BlackBox, network: Path | None) -> dict[str, Masker]:
    """The methods by name."""
    methods: dict[str, Masker] = {
        "CAM": Cam(),
        "universal": Universal(network=network),
        "multi-scale CAM": Cam(scales=SCALES),
        "excitation backprop, blurred": ExcitationBackprop(blur=8.0),
    }
    trained = trained_masker(black_box)
    return methods if trained is None else methods | {"trained": trained.bound_to(black_box)}


def row_of(
    masker: Masker, black_box: BlackBox, photo: Photo, entry: Record, score: Scorer | None
) -> Row:
    """What the table needs of one mask; with a score also its probabilities."""
    labels = torch.tensor([entry.label])
    start = time.process_time()
    output = masker.attribute(black_box, photo.image, labels, generator=Generator().manual_seed(0))
    row: Row = {"seconds": round(time.process_time() - start, 4)}
    mask = output.mask[0, 0].numpy()
    found, truth = boxes_of(mask), photo.boxes.numpy()
    row["overlap"] = {
        mode: [round(best_overlap(box, truth), 3) for box in found[mode]] for mode in MODES
    }
    other = masker(
        black_box,
        photo.image,
        torch.tensor([other_class(entry)]),
        generator=Generator().manual_seed(0),
    )
    row |= {"area": round(float(mask.mean()), 4), "other_area": round(float(other.mean()), 4)}
    if score is not None:
        ranking = output.mask if output.attributions is None else output.attributions
        places = score.places(ranking)
        assert places is not None, f"a flat map: {entry.name}"
        row |= {"areas": score.at_areas(places, AREAS, UNSEEN), "p": round(score.whole, 4)}
    return row


def run(arguments: argparse.Namespace) -> None:
    """Append the rows that are not there yet."""
    forms = black_boxes(arguments.model)
    methods = maskers(forms.own, arguments.network)
    chosen = {name: methods[name] for name in arguments.methods or methods if name in methods}
    done = {(row["photo"], row["method"]) for row in read_rows(arguments.out)}
    plan = [(entry, True) for entry in part("report")[: arguments.scored]]
    plan += [(entry, False) for entry in part("tune")[: arguments.tuned]]
    plan += [(entry, False) for entry in part("report")[arguments.scored : arguments.counted]]
    for number, (entry, scored) in enumerate(plan):
        left = [
            name
            for name in chosen
            if (entry.name, name) not in done and (scored or name not in SLOW)
        ]
        if not left:
            continue
        (photo,) = read([entry], forms.own)
        score = Scorer(forms.quick, photo) if scored else None
        for name in left:
            row = {"photo": entry.name, "method": name, "model": arguments.model}
            row |= {"part": entry.part, "object": round(entry.object_area, 4)}
            row |= row_of(chosen[name], forms.own, photo, entry, score)
            append(arguments.out, row)
        print(f"\r{number + 1} of {len(plan)}", end="", file=sys.stderr)


def gap(row: Row) -> float:
    """Kept minus dropped probability, mean of the areas and held-out fills."""
    return mean(kept - dropped for kept, dropped in row["areas"].values())


def missed(row: Row, mode: str, cut: int) -> float:
    """1 where the box is wrong."""
    return float(row["overlap"][mode][cut] < TAKEN)


def table(files: list[Path]) -> str:
    """Markdown: a line per classifier and method; differences from `universal` on the same photos,
    with 95 % intervals.
    """
    lines = [
        "| classifier | method | kept - dropped | universal is better by | localization error, % | "
        "universal is lower by | other class's area | CPU ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for file in files:
        by_method: dict[str, dict[str, Row]] = {}
        for row in read_rows(file):
            by_method.setdefault(row["method"], {})[row["photo"]] = row
        lines += [line(name, by_method) for name in by_method]
    return "\n".join(lines)


def line(name: str, by_method: Mapping[str, Mapping[str, Row]]) -> str:
    """One method's line."""
    rows, ours = by_method[name], by_method.get("universal", {})
    scored = [photo for photo in rows if "areas" in rows[photo]]
    both = [photo for photo in scored if "areas" in ours.get(photo, {})]
    model = next(iter(rows.values()))["model"]
    cells = [model, name, f"{mean(gap(rows[p]) for p in scored):.3f} ({len(scored)})"]
    same = name == "universal"
    cells.append("" if same else difference([gap(ours[p]) - gap(rows[p]) for p in both], 1, 3))
    if any(row["part"] == "tune" for row in rows.values()):
        errors, chosen = errors_of(rows)
        cells.append(f"{100 * mean(errors.values()):.1f} ({len(errors)}; {chosen})")
        others = {} if same else errors_of(ours)[0]
        shared = [errors[p] - others[p] for p in errors if p in others]
        cells.append(difference(shared, 100, 1) if shared else "")
    else:
        cells += ["", ""]
    areas = sum(r["other_area"] for r in rows.values()) / sum(r["area"] for r in rows.values())
    seconds = sorted(row["seconds"] for row in rows.values())[len(rows) // 2]
    return f"| {' | '.join([*cells, f'{areas:.2f} of its own', f'{1e3 * seconds:.0f}'])} |"


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
    parser.add_argument("--scored", type=int, default=150, help="report photos with probabilities")
    parser.add_argument("--tuned", type=int, default=314)
    parser.add_argument("--counted", type=int, default=861, help="report photos with boxes")
    parser.add_argument("--out", type=Path, default=Path("universal.jsonl"))
    parser.add_argument("--table", nargs="+", type=Path, help="files of rows: print the table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.table:
        print(table(arguments.table))
    else:
        run(arguments)


if __name__ == "__main__":
    main()
