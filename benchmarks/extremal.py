"""Extremal perturbations: does ours keep as much as TorchRay's at equal area, and what does an
iteration cost?

    python -m benchmarks.extremal                        # 8 photos, 800 iterations: over an hour
    python -m benchmarks.extremal --photos 2 --peer-steps 100 --rounds 1   # a look
    python -m benchmarks.extremal --target-areas 0.07 0.14 0.28 --rounds 0  # TorchRay's areas
    python -m benchmarks.extremal --model resnet50 --photos 0 # the cost alone, random weights

Both explain the model's own top class, on the same photos and classifier, at their
defaults, for all areas at once. One score for both: the best pixels of each mask up to exactly the
area are kept, the rest is blurred with 20 px of 224, the widest level of both pyramids. `soft
edge`: this binary mask smoothed with 5 px, which leaves its area and spares the network a sharp
outline; `sharp`: not smoothed; `held_out`: sharp, under the two fills of `held_out.py` that neither
was optimized under; `as it is`: the mask itself over the same blur, with the area that it really
has. The cost of an iteration is measured on pairs of runs of different lengths, so that what is
done once does not count; CPU time on one thread. For the scores TorchRay runs on our frozen copy of
the classifier (batch norms folded, the same answers to 1e-6); for the cost on the classifier as it
is.
"""

import argparse
import importlib.util
import statistics
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.data import MODELS, Photo, read_photos
from benchmarks.masks import best_pixels
from benchmarks.scoring import UNSEEN, Scorer
from benchmarks.speed import MEAN, SIDE, STD, cpu_seconds, interval, network
from saliencykit.alternatives import gaussian_blur
from saliencykit.black_boxes import TorchBlackBox
from saliencykit.core import BlackBox, compose, probability
from saliencykit.maskers import ExtremalPerturbation
from saliencykit.networks import optimize

WIDEST, EDGE = 20.0, 5.0  # px of 224
SHORT, LONG = 3, 9  # iterations of the two runs whose difference is the cost of an iteration


@dataclass(frozen=True)
class Kept:
    """The label's probability under one mask: its best pixels with a soft and a sharp edge, under
    unseen fills, and as it is.
    """

    soft: float
    sharp: float
    held_out: float
    as_it_is: float
    area: float


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    areas = tuple(arguments.areas)
    if arguments.photos:
        black_box = MODELS[arguments.model][0]()
        print(
            f"{arguments.model}, CPU, torch {torch.__version__}, {arguments.peer_steps} "
            "iterations of TorchRay's.\n"
        )
        print(scores_table(black_box, areas, arguments))
    else:
        black_box = TorchBlackBox(network(arguments.model), mean=MEAN, std=STD, size=SIDE)
    if arguments.rounds:
        print("\n" + cost_table(black_box, areas, arguments))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model",
        default="mobilenet_v2",
        help="of the data folder, or with --photos 0 any of torchvision's",
    )
    parser.add_argument(
        "--photos", type=int, default=8, help="of ilsvrc2012-val-a; 0: only the cost"
    )
    parser.add_argument("--seed", type=int, default=0, help="which photos")
    parser.add_argument("--areas", type=float, nargs="+", default=[0.05, 0.1, 0.2])
    parser.add_argument(
        "--target-areas",
        type=float,
        nargs="*",
        help="areas given to ours, one for each of --areas; default: those",
    )
    parser.add_argument(
        "--steps",
        type=int,
        nargs="*",
        default=[ExtremalPerturbation.steps],
        help="of ours; several: a curve",
    )
    parser.add_argument("--peer-steps", type=int, default=800, help="0: without TorchRay")
    parser.add_argument(
        "--peer-masks", type=Path, help="a file that keeps TorchRay's masks, read if it is there"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of the measurement of cost; 0: none")
    return parser.parse_args()


def torchray(
    black_box: TorchBlackBox,
    image: Tensor,
    label: int,
    areas: Sequence[float],
    steps: int,
    *,
    folded: bool = False,
) -> Tensor:
    """TorchRay's masks, (areas, 1, H, W), at its defaults; `folded`: on our frozen copy, which
    takes half the time.
    """
    from torchray.attribution.extremal_perturbation import extremal_perturbation

    mean, std = (
        image.new_tensor(numbers).view(1, -1, 1, 1) for numbers in (black_box.mean, black_box.std)
    )
    shown = (image - mean) / std
    model = optimize(black_box.model, shown).model if folded else black_box.model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        masks, _ = extremal_perturbation(model, shown, label, areas=list(areas), max_iter=steps)
    return masks


def scores_table(
    black_box: TorchBlackBox, areas: tuple[float, ...], arguments: argparse.Namespace
) -> str:
    """One row for each method and area: means over the photos."""
    photos = read_photos("ilsvrc2012-val-a", black_box, count=arguments.photos, seed=arguments.seed)
    fast = black_box.optimized_for(photos[0].image)
    scored: dict[str, list[list[Kept]]] = {}
    seconds: dict[str, list[float]] = {}
    for number, photo in enumerate(photos):
        with torch.no_grad():
            photo = replace(photo, label=int(fast(photo.image).argmax()))
        for name, make in contenders(black_box, photo, areas, arguments).items():
            masks, spent = make()
            score = Scorer(fast, photo)
            scored.setdefault(name, []).append(
                [score_mask(score, m[None], a) for m, a in zip(masks, areas, strict=True)]
            )
            seconds.setdefault(name, []).append(spent)
        print(f"{number + 1} of {len(photos)}", end="\r", file=sys.stderr, flush=True)
    rows = [
        "| method | area | kept, soft edge | sharp | unseen | as it is | its area | n | CPU s a "
        "photo, all areas |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, answers in scored.items():
        for index, area in enumerate(areas):
            mine = [answer[index] for answer in answers]
            values = (
                statistics.fmean(getattr(kept, field.name) for kept in mine)
                for field in fields(Kept)
            )
            cost = f"{statistics.fmean(seconds[name]):.1f}" if index == 0 else ""
            rows.append(
                f"| {name} | {area} | {' | '.join(f'{value:.3f}' for value in values)} | "
                f"{len(mine)} | {cost} |"
            )
    return "\n".join(rows)


def contenders(
    black_box: TorchBlackBox, photo: Photo, areas: tuple[float, ...], arguments: argparse.Namespace
) -> dict[str, Callable[[], tuple[Tensor, float]]]:
    """By name: a function that gives the masks (areas, 1, H, W) and the CPU seconds they took."""

    def ours(steps: int) -> Callable[[], tuple[Tensor, float]]:
        masker = ExtremalPerturbation(areas=tuple(arguments.target_areas or areas), steps=steps)
        return lambda: timed(
            lambda: masker.per_area(black_box, photo.image, torch.tensor([photo.label]))[0]
        )

    def theirs() -> tuple[Tensor, float]:
        path: Path | None = arguments.peer_masks
        known: dict[tuple[Any, ...], tuple[Tensor, float]] = (
            torch.load(path) if path is not None and path.exists() else {}
        )
        key = (arguments.model, photo.name, photo.label, areas, arguments.peer_steps)
        if key not in known:
            known[key] = timed(
                lambda: torchray(
                    black_box, photo.image, photo.label, areas, arguments.peer_steps, folded=True
                )
            )
            if path is not None:
                torch.save(known, path)
        return known[key]

    found: dict[str, Callable[[], tuple[Tensor, float]]] = {
        f"saliencykit, {steps} steps": ours(steps) for steps in arguments.steps
    }
    return found | (
        {f"TorchRay, {arguments.peer_steps} iterations": theirs} if arguments.peer_steps else {}
    )


def timed(make: Callable[[], Tensor]) -> tuple[Tensor, float]:
    held: list[Tensor] = []
    seconds = cpu_seconds(lambda: held.append(make()))
    return held[0], seconds


def score_mask(score: Scorer, mask: Tensor, area: float) -> Kept:
    """What a mask (1, 1, H, W) keeps."""
    best, pixel = best_pixels(mask, area), min(score.image.shape[2:]) / SIDE
    fill = gaussian_blur(score.image, WIDEST * pixel)
    with torch.no_grad():
        edits = torch.cat(
            [compose(score.image, m, fill) for m in (gaussian_blur(best, EDGE * pixel), best, mask)]
        )
        soft, sharp, own = probability(
            score.black_box(edits), score.label.expand(3), "softmax"
        ).tolist()
    held_out = score.probabilities([(best, fill) for fill in UNSEEN])
    return Kept(soft, sharp, statistics.fmean(held_out), own, mask.mean().item())


def cost_table(
    black_box: TorchBlackBox, areas: tuple[float, ...], arguments: argparse.Namespace
) -> str:
    """CPU milliseconds per iteration with all areas, in alternating pairs of runs."""
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([0])  # which class makes no difference to the time
    frozen: BlackBox = black_box.optimized_for(
        image
    )  # made once: what is done once is not what is measured

    def ours(steps: int) -> object:
        return ExtremalPerturbation(areas=areas, steps=steps).per_area(frozen, image, label)

    runs: dict[str, Callable[[int], object]] = {"saliencykit": ours}
    if importlib.util.find_spec("torchray") is None:
        print("TorchRay is left out: `pip install torchray` in an environment.", file=sys.stderr)
    elif arguments.peer_steps:
        runs["TorchRay"] = lambda steps: torchray(black_box, image, 0, areas, steps)
    each: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(arguments.rounds + 1):
        for name, run in runs.items():
            short, long = (
                cpu_seconds(lambda run=run, steps=steps: run(steps)) for steps in (SHORT, LONG)
            )
            if turn:  # the first round warms up
                each[name].append((long - short) / (LONG - SHORT))
    rows = [
        f"| {arguments.model}, {len(areas)} areas | ms per iteration | x ours |",
        "|---|---|---|",
    ]
    for name, times in each.items():
        ratios = [mine / own for mine, own in zip(times, each["saliencykit"], strict=True)]
        rows.append(f"| {name} | {statistics.median(times) * 1e3:.0f} | {interval(ratios)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
