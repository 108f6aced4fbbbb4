r"""The results table: every method's masks scored on photos that nothing was trained or chosen on.

    python -m benchmarks.results --part tune --out tune.jsonl     # to choose thresholds
    python -m benchmarks.results --part report --out report.jsonl
    python -m benchmarks.results --part report --few --methods rise iterative --out report.jsonl
    python -m benchmarks.results --part report --methods --masker ours=masker.safetensors \
        --out report.jsonl
    python -m benchmarks.results --data-set ilsvrc2012-val-a --columns boxes crops \
        --methods cam excitation-backprop --out methods.jsonl
    python -m benchmarks.results --table --tune tune.jsonl --out report.jsonl \
        --ours ours --into PAGE.md --tag mobilenet_v2

A row per photo and method is appended to the file; what is there is not done again: a killed run
is resumed by the same command. The true class is explained; rows also hold the
classifier's own answer. The few photos (150 of the report part, 50 of the tuning part, stratified)
come first. Those of the report part have every column; others lack insertion, deletion and most of
the equal areas.
"""

import argparse
import sys
import time
from collections.abc import Collection
from pathlib import Path
from random import Random

import numpy as np
import torch

from benchmarks.data import MODELS, Photo
from benchmarks.localization import MODES, Map, best_overlap, boxes_of
from benchmarks.methods import BLIND, CHEAP, COSTLY, BlackBoxes, Method, is_one_of, methods
from benchmarks.onnx_black_box import OnnxBox
from benchmarks.rows import Row, append, read_rows
from benchmarks.scoring import AREAS, FILLS, SOME_AREAS, UNSEEN, Scorer
from benchmarks.split import BOXED, Record, few, part, read, squashing
from benchmarks.tables import put_into, tables
from saliencykit.core import tight_boxes

FEW = {"tune": 50, "report": 150}
COLUMNS = ("boxes", "crops", "search", "areas", "regions", "curves", "evidence")
_CLASSES = 1000


def black_boxes(model: str) -> BlackBoxes:
    """The classifier in the forms that the methods and the score want; without onnxruntime the
    frozen copy scores.
    """
    own = squashing(MODELS[model][0]())
    frozen = own.optimized_for(
        torch.rand(1, 3, *own.input_size, generator=torch.Generator().manual_seed(0))
    )
    try:
        return BlackBoxes(own, frozen, OnnxBox(own))
    except ImportError:
        return BlackBoxes(own, frozen, frozen)


def other_class(entry: Record) -> int:
    """A class that is not the photo's: random, the same for every method."""
    return (entry.label + Random(entry.name).randrange(1, _CLASSES)) % _CLASSES


def row_of(
    score: Scorer,
    photo: Photo,
    entry: Record,
    name: str,
    method: Method,
    *,
    every_column: bool,
    other: bool,
    columns: Collection[str] = ("boxes", "crops", "evidence"),
) -> Row:
    """What the tables need of one mask; with `other`, also of the mask for another class."""
    answer = method(photo, entry.label)
    mask = answer.mask[0, 0].numpy()
    row: Row = {
        "photo": entry.name,
        "method": name,
        **score.facts,
        "object": round(entry.object_area, 4),
        "few": every_column,
    }
    row |= {"seconds": round(answer.seconds, 4), "area": round(float(mask.mean()), 4)}
    if {"boxes", "crops"} & set(columns):
        found = boxes_of(mask, MODES if "crops" in columns else ("all",))
        truth = photo.boxes.numpy()
        row["overlap"] = {
            mode: [round(best_overlap(box, truth), 3) for box in boxes]
            for mode, boxes in found.items()
        }
        if answer.threshold is not None:
            own = tight_boxes(answer.mask >= answer.threshold)[0].tolist()
            row["learned"] = round(best_overlap((own[0], own[1], own[2], own[3]), truth), 3)
    if "crops" in columns:
        row["crops"] = score.crops(found)
        if name == "ground-truth":  # several boxes: each is shown, and the metric is their mean
            row["truth_crops"] = truth_crops(score, truth)
    # nothing inside of a box comes first
    places = None if name == "ground-truth" else score.places(answer.ranking)
    if places is not None and "search" in columns:
        row["searched"] = score.searched(places)
    if places is not None and "regions" in columns:
        row["regions"] = score.regions(places)
    if places is not None and {"areas", "evidence"} & set(columns):
        fills = FILLS if "evidence" in columns else UNSEEN
        row["areas"] = score.at_areas(places, AREAS if every_column else SOME_AREAS, fills)
    if places is not None and every_column and {"curves", "evidence"} & set(columns):
        row |= {"insertion": score.insertion(places), "deletion": score.deletion(places)}
    if "evidence" not in columns:
        return row
    row["graded"] = score.graded(answer.mask)
    if other:
        queried = method(photo, other_class(entry)).mask[0, 0].numpy()
        row |= {
            "other_area": round(float(queried.mean()), 4),
            "other_alike": round(similarity(mask, queried), 4),
        }
    return row


def truth_crops(score: Scorer, truth: Map) -> list[list[float]]:
    """What the classifier says of each ground-truth box, whole pixels."""
    first, end = np.floor(truth[:, :2]), np.ceil(truth[:, 2:])
    corners = np.concatenate([first, np.maximum(end, first + 1)], 1).astype(int)
    shown = score.shown([(x0, y0, x1, y1) for x0, y0, x1, y1 in corners.tolist()])
    return list(shown.values())


def similarity(one: Map, other: Map) -> float:
    """Correlation over pixels; of flat maps 1 if both are flat, else 0."""
    if one.std() == 0 or other.std() == 0:
        return float(one.std() == other.std())
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def run(arguments: argparse.Namespace) -> None:
    forms = black_boxes(arguments.model)
    maskers = dict(text.split("=", 1) for text in arguments.masker)
    queried = methods(forms, arguments.methods, maskers)
    everything = [
        entry for entry in part(arguments.part) if arguments.data_set in (None, entry.data_set)
    ]
    chosen = few(FEW[arguments.part], everything)
    costly = {name for name in queried if is_one_of(maskers.get(name, name), COSTLY)}
    blind = {name for name in queried if is_one_of(maskers.get(name, name), BLIND)}
    some = set(chosen)
    others = [] if arguments.few else [entry for entry in everything if entry not in some]
    plan = [(entry, arguments.part == "report") for entry in chosen] + [
        (entry, False) for entry in others
    ]
    done = {(row["photo"], row["method"]) for row in read_rows(arguments.out)}
    start, count = time.monotonic(), 0
    for number, (entry, every_column) in enumerate(plan[: arguments.photos]):
        names = [
            n for n in queried if (entry.name, n) not in done and (entry in some or n not in costly)
        ]
        if not names:
            continue
        photo = next(iter(read([entry], forms.own)))
        score = Scorer(forms.quick, photo)
        for name in names:
            other = name not in costly | blind
            row = row_of(
                score,
                photo,
                entry,
                name,
                queried[name],
                every_column=every_column,
                other=other,
                columns=arguments.columns,
            )
            append(arguments.out, row)
        count += 1
        pace = (time.monotonic() - start) / count
        print(f"{number + 1} of {len(plan)} photos, {pace:.2f} s each", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(MODELS), default="mobilenet_v2")
    parser.add_argument("--part", choices=["tune", "report"], default="report")
    parser.add_argument("--data-set", choices=BOXED, help="the photos of one data set only")
    parser.add_argument(
        "--columns",
        nargs="+",
        choices=COLUMNS,
        default=["boxes", "crops", "evidence"],
        help="overlap of boxes around all pixels; the same around the largest component too, and "
        "crops of both for the saliency metric; the metric with the same "
        "search of 8 areas for every method; kept and dropped at equal areas, held-out fills only; "
        "areas of the smallest sufficient and destroying regions; insertion and deletion; all "
        "evidence",
    )
    parser.add_argument("--few", action="store_true", help="the few stratified photos only")
    parser.add_argument("--photos", type=int, help="at most so many, for a look")
    parser.add_argument(
        "--methods",
        nargs="*",
        default=list(CHEAP),
        help=f"default: {' '.join(CHEAP)}; any masker's text form",
    )
    parser.add_argument(
        "--masker",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="a masker by its text or file, named",
    )
    parser.add_argument("--out", type=Path, required=True, help="the file of rows")
    parser.add_argument(
        "--table", action="store_true", help="only print the tables of what is there"
    )
    parser.add_argument("--tune", type=Path, help="with --table: the rows of the tuning part")
    parser.add_argument(
        "--ours", nargs="*", default=[], help="with --table: methods to compare the others with"
    )
    parser.add_argument(
        "--into",
        type=Path,
        help="with --table: also put it between the two comments of this markdown page",
    )
    parser.add_argument(
        "--tag",
        default="results",
        help="with --into: the comments are <!-- TAG --> and <!-- end of TAG -->",
    )
    arguments = parser.parse_args()
    if arguments.table:
        text = tables(
            read_rows(arguments.tune) if arguments.tune else [],
            read_rows(arguments.out),
            arguments.ours,
        )
        print(text)
        if arguments.into:
            put_into(arguments.into, arguments.tag, text)
        return
    torch.set_num_threads(1)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    run(arguments)


if __name__ == "__main__":
    main()
