"""Quantus' faithfulness, localization and complexity families run over our maskers: does every
metric give numbers?

    python -m benchmarks.quantus_families     # 50 photos, MobileNetV2: 3 CPU minutes a masker
    python -m benchmarks.quantus_families --maskers grad-cam --rows rows.jsonl   # a part
    python -m benchmarks.quantus_families --rows rows.jsonl --table              # only the table

Every metric of the three families, with few steps (see `metrics`; all else is Quantus' default, so
that maps are divided by the maximum of the batch and faithfulness is in probabilities), on photos
with boxes that the model gets right, for their own label. Maps come from
`saliencykit.integrations.quantus.explain_func` on the user's module with normalized inputs; Quantus
queries the optimized copy through a `BlackBoxModule`, which answers the same in less time. A cell
is the mean of the numbers that a metric returned; NaN and infinite ones are left out and counted.
It wants `pip install quantus` beside this package, and the data folder.

Three things of Quantus 0.6.0 are worked around, all of them for any maps of RGB images and none
by the maps: numpy 2.4 has no `trapz`, IROF wants a mask of as many channels as the image, and
ROAD takes places in all channels for places in one.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.data import MODELS, Photo, inside_boxes, read_photos
from saliencykit.black_boxes import TorchBlackBox
from saliencykit.integrations.quantus import BlackBoxModule, explain_func

MASKERS = ("gradient", "grad-cam", "feature-ablation", "random")
FAMILIES = ("faithfulness", "localization", "complexity")
STEPS = 12
"""In which values are taken away, all of them at the end: 3 channels, and a divisor of the pixels,
as Quantus demands.
"""
MOSAICS = 12
Row = dict[str, Any]


def know_trapz() -> None:
    """Numpy 2.4 has no `trapz`, which Quantus 0.6.0 wants."""
    if not hasattr(np, "trapz"):
        np.trapz = np.trapezoid  # type: ignore[attr-defined]


def imputed(pixels: int) -> Callable[..., Any]:
    """Quantus' imputation for images of so many pixels, given places in one channel for those in
    all that its ROAD hands it.
    """
    import quantus as q

    def perturb(arr: Any, indices: Any, **options: Any) -> Any:
        return q.perturb_func.noisy_linear_imputation(
            arr=arr, indices=np.unique(indices % pixels), **options
        )

    return perturb


def metrics(side: int, channels: int) -> dict[str, tuple[str, Callable[[], Any]]]:
    """Quantus' metrics by name: their family, and what makes one for images of `side` pixels."""
    import quantus as q

    step = side * side * channels // STEPS
    quiet = {"disable_warnings": True}
    know_trapz()

    def masked(arr: Any, mask: Any, **options: Any) -> Any:
        return q.perturb_func.baseline_replacement_by_mask(
            arr=arr, mask=np.broadcast_to(mask, arr.shape), **options
        )

    faithful: dict[str, Callable[[], Any]] = {
        "FaithfulnessCorrelation": lambda: q.FaithfulnessCorrelation(
            nr_runs=10, subset_size=step, return_aggregate=False, **quiet
        ),
        "FaithfulnessEstimate": lambda: q.FaithfulnessEstimate(features_in_step=step, **quiet),
        "Infidelity": lambda: q.Infidelity(
            n_perturb_samples=1, perturb_patch_sizes=[side // 4], **quiet
        ),
        "IROF": lambda: q.IROF(perturb_func=masked, return_aggregate=False, **quiet),
        "Monotonicity": lambda: q.Monotonicity(features_in_step=step, **quiet),
        "MonotonicityCorrelation": lambda: q.MonotonicityCorrelation(
            nr_samples=1, features_in_step=step, **quiet
        ),
        "PixelFlipping": lambda: q.PixelFlipping(
            features_in_step=step, return_auc_per_sample=True, **quiet
        ),
        "RegionPerturbation": lambda: q.RegionPerturbation(
            patch_size=side // 8, regions_evaluation=8, **quiet
        ),
        "ROAD": lambda: q.ROAD(percentages=[20], perturb_func=imputed(side * side), **quiet),
        "Selectivity": lambda: q.Selectivity(patch_size=side // 4, **quiet),
        "SensitivityN": lambda: q.SensitivityN(
            features_in_step=step, return_aggregate=False, **quiet
        ),
        "Sufficiency": lambda: q.Sufficiency(**quiet),
    }
    local: dict[str, Callable[[], Any]] = {
        "AttributionLocalisation": lambda: q.AttributionLocalisation(**quiet),
        "AUC": lambda: q.AUC(**quiet),
        "Focus": lambda: q.Focus(**quiet),
        "PointingGame": lambda: q.PointingGame(**quiet),
        "RelevanceMassAccuracy": lambda: q.RelevanceMassAccuracy(**quiet),
        "RelevanceRankAccuracy": lambda: q.RelevanceRankAccuracy(**quiet),
        "TopKIntersection": lambda: q.TopKIntersection(**quiet),
    }
    simple: dict[str, Callable[[], Any]] = {
        "Complexity": lambda: q.Complexity(**quiet),
        "EffectiveComplexity": lambda: q.EffectiveComplexity(**quiet),
        "Sparseness": lambda: q.Sparseness(**quiet),
    }
    families = {"faithfulness": faithful, "localization": local, "complexity": simple}
    return {
        name: (family, make)
        for family, members in families.items()
        for name, make in members.items()
    }


def mosaics(images: Tensor) -> tuple[Tensor, np.ndarray[Any, Any]]:
    """A 2 x 2 mosaic for each of the first images, and 1 where the image is.

    Beside it are its mirror image, 1 too, and the next two; they take turns at every place.
    """
    whole, where = [], []
    for i, image in enumerate(images[:MOSAICS]):
        parts = [
            image,
            image.flip(-1),
            images[(i + 1) % len(images)],
            images[(i + 2) % len(images)],
        ]
        turn = [(k + i) % 4 for k in range(4)]
        ordered = [parts[k] for k in turn]
        whole.append(torch.cat([torch.cat(ordered[:2], 2), torch.cat(ordered[2:], 2)], 1))
        where.append([int(k < 2) for k in turn])
    return torch.stack(whole), np.array(where)


def good_photos(black_box: TorchBlackBox, count: int) -> list[Photo]:
    """Photos with a box in the image that the model gets right."""
    found: list[Photo] = []
    for photo in read_photos("ilsvrc2012-val-a", black_box, count=4 * count):
        with torch.no_grad():
            if len(photo.boxes) and int(black_box(photo.image).argmax()) == photo.label:
                found.append(photo)
        if len(found) == count:
            break
    return found


def values(scores: Any) -> list[float]:
    """All numbers in what a metric returned."""
    parts: Iterable[Any] = scores.values() if isinstance(scores, Mapping) else scores
    return [float(v) for part in parts for v in np.ravel(np.asarray(part, dtype=np.float64))]


def rows_of(
    masker: str,
    black_box: TorchBlackBox,
    photos: list[Photo],
    done: set[str],
    families: Iterable[str] = FAMILIES,
) -> Iterable[Row]:
    """A row per metric of some families that is not done yet."""
    raw, labels = (
        torch.cat([photo.image for photo in photos]),
        np.array([photo.label for photo in photos]),
    )
    own = black_box.without_preprocessing()
    mean, std = (
        torch.tensor(numbers).view(1, -1, 1, 1)
        for numbers in (black_box.mean or (), black_box.std or ())
    )
    x = (raw - mean) / std
    known = metrics(x.shape[-1], x.shape[1])
    table = {
        name: entry for name, entry in known.items() if name not in done and entry[0] in families
    }
    if not table:
        return
    model = BlackBoxModule(own.optimized_for(x))
    start = time.process_time()
    maps = explain_func(black_box.module, x.numpy(), labels, masker=masker)
    print(f"{masker}: {len(x)} maps in {time.process_time() - start:.0f} CPU s", flush=True)
    segments = inside_boxes((photo.boxes for photo in photos), (x.shape[2], x.shape[3]))
    for name, (family, make) in table.items():
        given: dict[str, Any] = {
            "x_batch": x.numpy(), "y_batch": labels, "a_batch": maps, "s_batch": segments,
            "channel_first": True,
            "batch_size": len(x), "device": "cpu",
        }  # fmt: skip
        if name == "Focus":
            images, where = mosaics(x)
            # here Quantus computes the maps itself
            given |= {
                "x_batch": images.numpy(),
                "y_batch": labels[:MOSAICS],
                "a_batch": None,
                "s_batch": None,
            }
            given |= {"custom_batch": where, "batch_size": 6}
            given |= {"explain_func": explain_func, "explain_func_kwargs": {"masker": masker}}
        np.random.seed(0)
        start = time.process_time()
        failure, found = "", list[float]()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = values(
                    make()(model=black_box.module if name == "Focus" else model, **given)
                )
            except Exception as error:
                failure = f"{type(error).__name__}: {error}"
        seconds = round(time.process_time() - start, 1)
        yield {
            "masker": masker,
            "family": family,
            "metric": name,
            "values": found,
            "failure": failure,
            "seconds": seconds,
        }


def table(rows: list[Row], photos: int) -> str:
    """The table in Markdown: a line per metric, a column per masker."""
    maskers = list(dict.fromkeys(row["masker"] for row in rows))
    names = list(dict.fromkeys((row["family"], row["metric"]) for row in rows))
    cells = {(row["metric"], row["masker"]): row for row in rows}
    lines = [
        f"{photos} photos; the mean of a metric's numbers, and how many they are; *k NaN*: so "
        "many of them were NaN or infinite.",
        "",
        f"| family | metric | {' | '.join(maskers)} | numbers |",
        f"|---|---|{'---|' * (len(maskers) + 1)}",
    ]
    for family, name in names:
        mine = [cells.get((name, masker)) for masker in maskers]
        counts = {len(row["values"]) for row in mine if row is not None and not row["failure"]}
        lines.append(
            f"| {family} | {name} | {' | '.join(map(_cell, mine))} | "
            f"{'/'.join(map(str, sorted(counts)))} |"
        )
    numbers = [value for row in rows for value in row["values"]]
    bad = sum(not np.isfinite(value) for value in numbers)
    failed = sum(bool(row["failure"]) for row in rows)
    lines += [
        "",
        f"{len(numbers)} numbers from {len(rows)} runs of {len(names)} metrics: {bad} NaN or "
        f"infinite, {failed} runs failed.",
    ]
    return "\n".join(lines)


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    if row["failure"]:
        return row["failure"].split(":")[0]
    finite = [value for value in row["values"] if np.isfinite(value)]
    bad = len(row["values"]) - len(finite)
    shown = f"{np.mean(finite):.3g}" if finite else "-"
    return f"{shown} *{bad} NaN*" if bad else shown


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=MODELS, default="mobilenet_v2")
    parser.add_argument("--photos", type=int, default=50)
    parser.add_argument("--maskers", nargs="+", default=list(MASKERS), help="texts")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument(
        "--rows", type=Path, help="where rows are kept; what is there is not computed again"
    )
    parser.add_argument("--table", action="store_true", help="the table of the rows only")
    given = parser.parse_args()
    rows: list[Row] = []
    if given.rows is not None and given.rows.exists():
        rows = [json.loads(line) for line in given.rows.read_text().splitlines()]
    if not given.table:
        torch.set_num_threads(1)
        black_box = MODELS[given.model][0]()
        photos = good_photos(black_box, given.photos)
        for masker in given.maskers:
            done = {row["metric"] for row in rows if row["masker"] == masker}
            for row in rows_of(masker, black_box, photos, done, given.families):
                rows.append(row)
                print(
                    f"{masker} {row['metric']}: {row['seconds']} CPU s {row['failure']}", flush=True
                )
                if given.rows is not None:
                    with given.rows.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    print(table(rows, given.photos))


if __name__ == "__main__":
    main()
