"""Our metrics beside Quantus' at equal numbers of evaluations: the same model, photos and masks,
given in advance.

    python -m benchmarks.quantus_race            # 4 photos, 3 rounds, MobileNetV2: eight minutes
    python -m benchmarks.quantus_race --pairs deletion --rounds 1       # a look

One process, one thread, CPU time; the sides take turns within a round. Inside is the time in the
model's `forward` (see `benchmarks.evaluation`), outside all the rest; how many images each side
uses is counted, and must be equal. Quantus gets the plain model and normalized images, as
in its own examples; we get the black box, which queries an optimized copy of the same model. The
masks are Grad-CAM's. It wants `pip install quantus` beside this package, and the data folder.

ROAD: Quantus 0.6.0 takes places in all channels for places in one, so that it fails on RGB
images; here it gets places in one, and three times the percentages, so that both sides remove the
same number of pixels. It has one order and is queried twice, for the mask and for what the mask
leaves out.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from benchmarks.data import inside_boxes, mobilenet_v2, read_photos
from benchmarks.evaluation import Clock
from benchmarks.quantus_families import imputed, know_trapz
from benchmarks.speed import interval
from saliencykit.black_boxes import CachedCopies, TorchBlackBox
from saliencykit.core import Metric, Sample
from saliencykit.metrics import Complexity, Deletion, PointingGame, RemoveAndDebias, Sparseness
from saliencykit.registry import as_masker

STEPS = 24  # each a number of pixels and channels that divides the image, as Quantus wants it
_FREE = 1e-9  # seconds: below what the clock tells


@dataclass(frozen=True)
class Case:
    """What both sides are given.

    Attributes:
        black_box: The model, whose frozen copy is made once, as `evaluate` does.
        sample: Photos with labels and boxes.
        masks: (B, 1, H, W).
    """

    black_box: CachedCopies
    sample: Sample
    masks: Tensor

    def ours(self, metric: Metric) -> Callable[[], object]:
        """The metric on all photos at once."""

        def explain(images: Tensor, labels: Tensor) -> Tensor:
            raise AssertionError("none of these metrics queries the masker")

        return lambda: metric(
            self.black_box,
            self.sample,
            self.masks,
            explain=explain,
            generator=Generator().manual_seed(0),
        )

    def theirs(self, metric: Any, *, masks: Tensor | None = None) -> Callable[[], object]:
        """The same photos as arrays, in one batch."""
        black_box = self.black_box.black_box
        assert isinstance(black_box, TorchBlackBox)
        mean, std = (
            torch.tensor(numbers).view(1, -1, 1, 1) for numbers in (black_box.mean, black_box.std)
        )
        x = ((self.sample.images - mean) / std).numpy()
        given = {
            "y_batch": self.sample.labels.numpy(),
            "a_batch": (self.masks if masks is None else masks).numpy(),
        }
        inside = inside_boxes(self.sample.boxes or (), (self.masks.shape[2], self.masks.shape[3]))
        return lambda: metric(
            model=self.black_box.module,
            x_batch=x.copy(),
            **given,
            s_batch=inside,
            channel_first=True,
            device="cpu",
            batch_size=len(x),
        )


def pairs(case: Case) -> dict[str, tuple[str, Callable[[], object], Callable[[], object]]]:
    """By the name of our metric: theirs, and both sides."""
    import quantus as q

    side = case.masks.shape[3]
    pixels, channels = side * case.masks.shape[2], case.sample.images.shape[1]
    quiet: dict[str, Any] = {"disable_warnings": True, "display_progressbar": False}

    flipping = q.PixelFlipping(
        features_in_step=pixels * channels // STEPS, perturb_baseline="black", **quiet
    )
    fractions = RemoveAndDebias().fractions
    road = [
        q.ROAD(
            percentages=[100 * channels * fraction for fraction in fractions],
            perturb_func=imputed(pixels),
            **quiet,
        )
        for _ in range(2)
    ]
    first, second = case.theirs(road[0]), case.theirs(road[1], masks=1 - case.masks)

    def both() -> None:
        first()
        second()

    return {
        "deletion": ("PixelFlipping", case.ours(Deletion(steps=STEPS - 1)), case.theirs(flipping)),
        "road": ("ROAD, both orders", case.ours(RemoveAndDebias()), both),
        "pointing-game": (
            "PointingGame",
            case.ours(PointingGame()),
            case.theirs(q.PointingGame(**quiet)),
        ),
        "sparseness": ("Sparseness", case.ours(Sparseness()), case.theirs(q.Sparseness(**quiet))),
        "complexity": ("Complexity", case.ours(Complexity()), case.theirs(q.Complexity(**quiet))),
    }


@dataclass
class Spent:
    """CPU seconds, those outside the model, and the images that the model has seen."""

    total: float
    outside: float
    images: int


def spend(run: Callable[[], object], times: int) -> Spent:
    """One run, or the mean of several of one that is short."""
    clock = Clock()
    with counting(clock) as queried:
        started = time.process_time()
        clock.start()
        for _ in range(times):
            run()
        clock.turn()
        total = time.process_time() - started
    return Spent(
        total / times, max(_FREE, total - sum(clock.inside.values())) / times, queried[0] // times
    )


@contextmanager
def counting(clock: Clock) -> Iterator[list[int]]:
    """In this block the outermost call of any module is inside, and the images it gets are
    counted.
    """
    queried, call = [0], nn.Module.__call__

    def seen(module: nn.Module, x: Tensor, *rest: Any, **options: Any) -> Any:
        queried[0] += len(x)
        return call(module, x, *rest, **options)

    def counted(module: nn.Module, *given: Any, **options: Any) -> Any:
        return (call if clock.in_network else outermost)(module, *given, **options)

    outermost = clock.network(seen)
    nn.Module.__call__ = counted  # type: ignore[method-assign]
    try:
        yield queried
    finally:
        nn.Module.__call__ = call  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=4, help="of ilsvrc2012-val-a")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", nargs="*", metavar="METRIC", help="ours; default: all")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    know_trapz()
    sides = pairs(made(arguments.photos))
    print(
        f"mobilenet_v2, 224 px, torch {torch.__version__}, one thread, {arguments.photos} photos, "
        f"{arguments.rounds} rounds.\n"
    )
    print(
        "| metric | Quantus' | evaluations a photo | ours, ms a photo | Quantus | x ours | "
        "outside: ours, ms | Quantus | x ours |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    all_ours, all_theirs = [], []
    for name in arguments.pairs or sides:
        peer, mine, theirs = sides[name]
        mine()  # the frozen copy's first use, memory
        ours, others = [], []
        for turn in range(arguments.rounds):
            short = 1 if name in ("deletion", "road") else 10
            for which in (0, 1) if turn % 2 else (1, 0):
                (ours, others)[which].append(spend((mine, theirs)[which], short))
        print(line(name, peer, ours, others, arguments.photos), flush=True)
        all_ours.append(ours)
        all_theirs.append(others)
    if len(all_ours) > 1:
        print(line("**all**", "", together(all_ours), together(all_theirs), arguments.photos))


def made(count: int) -> Case:
    """Photos with boxes, and their masks."""
    black_box = mobilenet_v2()
    black_box.model.requires_grad_(False)
    photos = [
        photo
        for photo in read_photos("ilsvrc2012-val-a", black_box, count=4 * count)
        if len(photo.boxes)
    ][:count]
    labels = torch.tensor([photo.label for photo in photos])
    sample = Sample(
        torch.cat([photo.image for photo in photos]), labels, tuple(photo.boxes for photo in photos)
    )
    masks = as_masker("grad-cam")(
        black_box, sample.images, labels, generator=Generator().manual_seed(0)
    )
    return Case(CachedCopies(black_box), sample, masks)


def together(spent: list[list[Spent]]) -> list[Spent]:
    """Round by round the sum over the metrics."""
    return [
        Spent(sum(s.total for s in turn), sum(s.outside for s in turn), sum(s.images for s in turn))
        for turn in zip(*spent, strict=True)
    ]


def line(name: str, peer: str, ours: list[Spent], theirs: list[Spent], photos: int) -> str:
    """A row of the table."""
    queried = {spent.images // photos for spent in (*ours, *theirs)}
    cells = [name, peer, " / ".join(map(str, sorted(queried)))]
    for kind in ("total", "outside"):
        mine, other = ([getattr(spent, kind) for spent in side] for side in (ours, theirs))
        cells += [f"{statistics.median(seconds) / photos * 1e3:.3g}" for seconds in (mine, other)]
        cells.append(interval([t / m for t, m in zip(other, mine, strict=True)]))
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
