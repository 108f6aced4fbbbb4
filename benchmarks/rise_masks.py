"""How many masks does RISE need? Estimates from few masks against a map of 16,000, on photos and
trained networks.

    python -m benchmarks.rise_masks              # 8 photos: half an hour; --keep reuses rows
    python -m benchmarks.rise_masks --model squeezenet --photos 4

The reference is the published sum, centered, over 16,384 random masks of their own; Pearson's
correlation with it is the accuracy. Each photo is one that the network gets right; answers are kept
in a file per photo. `needed` is the least number of masks from which on the mean correlation over
the photos stays above 0.95. The last line is what `target_correlation=0.95` does: masks drawn, and
the correlation reached.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Generator, Tensor

from benchmarks.data import MODELS, Photo, read_photos
from saliencykit.alternatives import Constant
from saliencykit.black_boxes import TorchBlackBox
from saliencykit.core import probability
from saliencykit.maskers.perturbation import (
    FactoredMasks,
    MeanEstimator,
    RegressionEstimator,
    Sampling,
    ScoreEstimator,
    draw_masks,
)

REFERENCE, MOST = 16384, 4096
STEPS = (128, 192, 256, 320, 384, 512, 640, 768, 1024, 1280, 1536, 2048, 2560, 3072, 4096)
WANTED, CELLS, KEEP, BATCH = 0.95, 7, 0.5, 4
Samples = tuple[FactoredMasks, Tensor]


class Published(ScoreEstimator):
    """The published sum as it is, `mean(y * M) / keep`: not centered."""

    def __init__(self, size: tuple[int, int], keep: float, like: Tensor) -> None:
        super().__init__(size, keep)
        self.inner = MeanEstimator(size, keep, like)

    def _update(self, masks: FactoredMasks, above: Tensor, groups: Tensor) -> None:
        self.inner._update(masks, above + (self.reference or 0.0), groups)

    def attributions(self, groups: list[int] | None = None) -> Tensor:
        """Over all groups or some."""
        mine = slice(None) if groups is None else groups
        return torch.div(
            self.inner.products[mine].sum(0), self.inner.count[mine].sum() * self.keep_prob
        )

    def standard_error(self) -> Tensor:
        """Not told."""
        raise NotImplementedError


ESTIMATES: dict[str, tuple[Sampling, Callable[[tuple[int, int]], ScoreEstimator]]] = {
    "random masks, plain sum (as published, as the peers do)": (
        "random",
        lambda size: Published(size, KEEP, torch.zeros(())),
    ),
    "random masks, centered sum": (
        "random",
        lambda size: MeanEstimator(size, KEEP, torch.zeros(())),
    ),
    "antithetic pairs, centered sum": (
        "antithetic",
        lambda size: MeanEstimator(size, KEEP, torch.zeros(())),
    ),
    "random masks, regression": (
        "random",
        lambda size: RegressionEstimator(size, CELLS, KEEP, torch.zeros(())),
    ),
    "antithetic pairs, regression (our default)": (
        "antithetic",
        lambda size: RegressionEstimator(size, CELLS, KEEP, torch.zeros(())),
    ),
}


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    black_box = MODELS[arguments.model][0]()
    reached: dict[str, list[dict[int, float]]] = {name: [] for name in ESTIMATES}
    stopped: list[tuple[int, float]] = []
    used = 0
    for photo in read_photos("ilsvrc2012-val-a", black_box, count=10 * arguments.photos, seed=5):
        if used == arguments.photos:
            break
        with torch.no_grad():
            if int(black_box(photo.image).argmax()) != photo.label:
                continue
        used += 1
        answers = {
            kind: queried(black_box, photo, kind, arguments)
            for kind in ("reference", "random", "antithetic")
        }
        size = (photo.image.shape[2], photo.image.shape[3])
        truth = filled(
            MeanEstimator(size, KEEP, torch.zeros(())), *answers["reference"], REFERENCE
        )[REFERENCE].flatten()
        for name, (sampling, make) in ESTIMATES.items():
            maps = filled(make(size), *answers[sampling], MOST)
            reached[name].append(
                {count: correlation(found.flatten(), truth) for count, found in maps.items()}
            )
        count = first_stop(
            RegressionEstimator(size, CELLS, KEEP, torch.zeros(())), *answers["antithetic"]
        )
        found = filled(
            RegressionEstimator(size, CELLS, KEEP, torch.zeros(())), *answers["antithetic"], count
        )[count]
        stopped.append((count, correlation(found.flatten(), truth)))
        print(f"{used} of {arguments.photos}", file=sys.stderr, flush=True)
    print(
        f"{arguments.model}, {used} photos, mean Pearson correlation with the map of {REFERENCE} "
        "masks.\n"
    )
    shown = (128, 256, 512, 1024, 2048, 4096)
    print(
        f"| estimate | {' | '.join(map(str, shown))} | needed for {WANTED} "
        f"|\n{'|---' * (len(shown) + 2)}|"
    )
    for name, each in reached.items():
        means = {count: statistics.fmean(one[count] for one in each) for count in STEPS}
        cells = " | ".join(f"{means[count]:.3f}" for count in shown)
        print(f"| {name} | {cells} | {needed(means)} |")
    counts, values = zip(*stopped, strict=True)
    print(
        f"\n`target_correlation={WANTED}`: {statistics.median(counts):.0f} masks (median; "
        f"{min(counts)} to "
        f"{max(counts)}), correlation "
        f"{statistics.fmean(values):.3f} (lowest {min(values):.3f})."
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(MODELS), default="mobilenet_v2")
    parser.add_argument("--photos", type=int, default=8)
    parser.add_argument(
        "--keep",
        type=Path,
        default=Path("rise-answers"),
        help="a folder for the answers, so that a killed run goes on",
    )
    return parser.parse_args()


def queried(
    black_box: TorchBlackBox, photo: Photo, kind: str, arguments: argparse.Namespace
) -> Samples:
    """Masks, and the label's probability under each; read from the file if it is there."""
    samples = REFERENCE if kind == "reference" else MOST
    sampling: Sampling = "antithetic" if kind == "antithetic" else "random"
    generator = Generator().manual_seed(1 if kind == "reference" else 2)
    parts = list(draw_masks(photo.image, samples, CELLS, KEEP, sampling, generator=generator))
    masks = FactoredMasks(
        torch.cat([part.left for part in parts]), torch.cat([part.right for part in parts])
    )
    file = arguments.keep / f"{arguments.model}-{Path(photo.name).stem}-{kind}.pt"
    if file.exists():
        return masks, torch.load(file, weights_only=True)
    frozen, label = black_box.optimized_for(photo.image), torch.tensor([photo.label])
    fill = Constant(color="zero").for_black_box(black_box)(photo.image, generator=generator)
    difference, answers = photo.image - fill, []
    with torch.no_grad():
        for first in range(0, samples, BATCH):
            edits = torch.addcmul(fill, difference, masks[first : first + BATCH].masks())
            answers.append(probability(frozen(edits), label.expand(len(edits)), "softmax"))
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(torch.cat(answers), file)
    return masks, torch.cat(answers)


def filled(
    found: ScoreEstimator, masks: FactoredMasks, answers: Tensor, most: int
) -> dict[int, Tensor]:
    """The maps after so many masks as STEPS says, and after `most`."""
    maps = {}
    for end in sorted({count for count in STEPS if count < most} | {most}):
        found.update(masks[found.num_samples : end], answers[found.num_samples : end])
        maps[end] = found.attributions().float()
    return maps


def first_stop(found: ScoreEstimator, masks: FactoredMasks, answers: Tensor) -> int:
    """Where `target_correlation` would stop: it looks every 128 masks from 256 on."""
    while found.num_samples < MOST:
        found.update(
            masks[found.num_samples : found.num_samples + 128],
            answers[found.num_samples : found.num_samples + 128],
        )
        if found.num_samples >= 256 and found.expected_correlation() >= WANTED:
            break
    return found.num_samples


def correlation(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])


def needed(means: dict[int, float]) -> str:
    """The least number from which on the mean stays above the wanted one."""
    last = max((count for count in STEPS if means[count] < WANTED), default=0)
    later = [count for count in STEPS if count > last]
    return str(later[0]) if later else f"more than {MOST}"


if __name__ == "__main__":
    main()
