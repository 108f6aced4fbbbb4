"""Is the default answer believable, and is it the same for another seed?

    python -m benchmarks.stability --photos 100 --seeds 3 --rows stability.jsonl  # two CPU hours
    python -m benchmarks.stability --photos 17 --seeds 2
    python -m benchmarks.stability --masker rise --models squeezenet

Photos of ilsvrc2012-val-b that the model classifies with p > 0.5, explained for its top class as
`explain` does it: mask, then kept and dropped under blur, relative to the whole photo. `held-out`:
the same under the two fills of `held_out.py`, which nothing was developed with; photos whose fully
replaced image keeps half are left out there. Correlation: Pearson's, of the masks of two seeds at
56 x 56. Queries count every image that the model sees; those with gradients cost about three. CPU
time on one thread. With `--rows` a killed run goes on.
"""

import argparse
import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from benchmarks.data import MODELS, Photo, read_photos
from benchmarks.held_out import Road, ShuffledBlocks
from benchmarks.rows import Row, append, read_rows
from saliencykit.alternatives import Blur
from saliencykit.black_boxes import TorchBlackBox
from saliencykit.core import (
    BlackBox,
    BlackBoxWrapper,
    Images,
    Logits,
    Mask,
    Verdict,
    probability,
    run_trial,
)
from saliencykit.registry.coerce import as_masker

FILLS = {"blur": Blur(), "road": Road(), "shuffled": ShuffledBlocks()}
SIDE = 56


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    rows = read_rows(arguments.rows) if arguments.rows else []
    known = {(row["photo"], row["method"]) for row in rows}
    for model in arguments.models:
        black_box = MODELS[model][0]()
        for photo in decided(black_box, arguments.photos):
            for seed in range(arguments.seeds):
                method = f"{model} {arguments.masker} {seed}"
                if (photo.name, method) not in known:
                    rows.append(measured(black_box, photo, arguments.masker, seed))
                    rows[-1] |= {"method": method, "model": model, "masker": arguments.masker}
                    if arguments.rows:
                        append(arguments.rows, rows[-1])
    print(table(rows))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=17)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--masker", default="iterative")
    parser.add_argument("--models", nargs="+", default=list(MODELS)[:2], choices=list(MODELS))
    parser.add_argument("--rows", type=Path, help="a file that keeps the results")
    return parser.parse_args()


class Counting(BlackBoxWrapper):
    """Appends the number of images of every query to `batches`; the model's layers can be read."""

    def __init__(self, black_box: BlackBox, batches: list[int]) -> None:
        super().__init__(black_box)
        self.batches = batches

    def logits(self, images: Images) -> Logits:
        """Count, then query."""
        self.batches.append(len(images))
        return super().logits(images)


def decided(black_box: TorchBlackBox, count: int) -> Iterator[Photo]:
    """Photos with p > 0.5, each with the model's top class as its label."""
    photos = read_photos("ilsvrc2012-val-b", black_box, count=3 * count)
    for photo in photos:
        with torch.no_grad():
            best, label = black_box(photo.image).softmax(1).max(1)
        if best > 0.5 and count:
            count -= 1
            yield Photo(photo.name, photo.image, int(label), photo.boxes)


def measured(black_box: TorchBlackBox, photo: Photo, masker: str, seed: int) -> Row:
    counting, label = Counting(black_box, []), torch.tensor([photo.label])
    generator, started = Generator().manual_seed(seed), time.process_time()
    mask = as_masker(masker)(counting, photo.image, label, generator=generator)
    seconds = time.process_time() - started
    row: Row = {"photo": photo.name, "seed": seed, "area": float(mask.mean())}
    row |= {"seconds": seconds, "queries": sum(counting.batches)}
    for name, fill in FILLS.items():
        row[name] = trial(black_box, photo.image, label, mask, fill, seed)
    small = F.adaptive_avg_pool2d(mask, SIDE).flatten()
    return row | {"mask": [round(value, 3) for value in small.tolist()]}


def trial(
    black_box: BlackBox, image: Tensor, label: Tensor, mask: Mask, fill: object, seed: int
) -> list[float]:
    """p(label) of the whole image, kept, dropped, and replaced."""
    generator = Generator().manual_seed(1000 + seed)
    with torch.no_grad():
        two = run_trial(black_box, image, label, mask, alternative=fill, generator=generator)
        empty = black_box(fill.edit(image, torch.zeros_like(mask), generator))
        every = (black_box(image), two.preserved, two.destroyed, empty)
        return [float(probability(each, label, black_box.output)) for each in every]


def table(rows: Sequence[Row]) -> str:
    lines = [
        "| model, masker | photos x seeds | keeps and removes half | verdicts | held-out | area | "
        "correlation of seeds: median, lowest tenth | queries | CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["model"], row["masker"]].append(row)
    return "\n".join([*lines, *(line(*key, group) for key, group in groups.items())])


def line(model: str, masker: str, rows: Sequence[Row]) -> str:
    photos: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        photos[row["photo"]].append(row)
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[Verdict.of(*row["blur"])] += 1
    verdicts = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    tested = [
        row[fill]
        for row in rows
        for fill in ("road", "shuffled")
        if row[fill][3] < row[fill][0] / 2
    ]
    pairs = sorted(
        float(torch.corrcoef(torch.tensor([a["mask"], b["mask"]]))[0, 1])
        for group in photos.values()
        for a, b in itertools.combinations(group, 2)
    )
    correlation = f"{statistics.median(pairs):.2f}, {pairs[len(pairs) // 10]:.2f}" if pairs else "-"
    means = [statistics.fmean(row[key] for row in rows) for key in ("area", "queries", "seconds")]
    return (
        f"| {model}, {masker} | {len(photos)} x {len(rows) / len(photos):.3g} | "
        f"{share([row['blur'] for row in rows])} | {verdicts} | {share(tested)} | {means[0]:.2f} | "
        f"{correlation} | {means[1]:.0f} | {means[2]:.1f} |"
    )


def share(trials: Sequence[Sequence[float]]) -> str:
    """Of trials, how many keep at least half of the whole image's probability and remove half."""
    good = sum(kept >= whole / 2 and dropped <= whole / 2 for whole, kept, dropped, *_ in trials)
    return f"{good / max(1, len(trials)):.0%}"


if __name__ == "__main__":
    main()
