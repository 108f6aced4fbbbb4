"""Does the mask's shape alone give the class away? A masker that writes the label into its masks
scores high and explains nothing.

    python -m benchmarks.encoding --masker ours=masker.safetensors --black-box cifar10-fitnet
    python -m benchmarks.encoding --masker ours=masker.safetensors --data ten

A linear probe is cross-validated on masks pooled to a few cells, twice. It reads the predicted
class from the mask for it: outlines of objects tell something of what they are. And it reads the
class that was explained from the mask for a random other class, of which the image holds
nothing: any reading above the control is the masker's own writing. The controls are smooth random
masks with the same values, so also the same area, as each mask.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from benchmarks.data import MODELS, read_cifar10
from benchmarks.rows import append
from benchmarks.split import part, read, squashing
from saliencykit.core import BlackBox, Images, Labels, Mask
from saliencykit.evaluation import interval
from saliencykit.registry import as_black_box, as_masker
from saliencykit.sanity import matched, pooled, predictions

TEN = (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)
"""The ten ImageNet classes of Imagenette, of which val-b has most photos."""
_TOGETHER = 50  # images per call of the masker
_CONTROLS = 5  # random masks for each mask


@dataclass(frozen=True)
class Reading:
    """How often a class was read right, per image (N,): from the mask, and on average from its
    random controls.
    """

    area: float
    right: Tensor
    control: Tensor

    def row(self) -> str:
        """The cells of the table: area, both accuracies, their paired difference."""
        cells = [f"{self.area:.3f}"]
        for values, sign in (
            (self.right, ""),
            (self.control, ""),
            (self.right - self.control, "+"),
        ):
            middle, low, high = interval(100 * values.numpy())
            cells.append(f"{middle:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]")
        return " | ".join(cells)


def reading(masks: Mask, classes: Labels, *, cells: int, seed: int = 0) -> Reading:
    """Probe masks for the classes that they were made for."""
    generator = Generator().manual_seed(seed)
    right = (predictions(pooled(masks, cells), classes, seed=seed) == classes).double()
    controls = [pooled(matched(masks, generator=generator), cells) for _ in range(_CONTROLS)]
    control = torch.stack(
        [(predictions(c, classes, seed=seed) == classes).double() for c in controls]
    ).mean(0)
    return Reading(masks.mean().item(), right, control)


def others(classes: Labels, count: int, *, seed: int = 0) -> Labels:
    """For each image a class that is not its own, all equally likely."""
    return (
        classes + torch.randint(1, count, classes.shape, generator=Generator().manual_seed(seed))
    ) % count


def probe(
    explain: Callable[[Images, Labels], Mask],
    images: Images,
    classes: Labels,
    queried: Labels,
    *,
    cells: int,
) -> tuple[Reading, Reading]:
    """The reading of the predicted classes from their masks, and of the other classes that were
    explained from theirs.
    """

    def masks(labels: Labels) -> Mask:
        slices = [slice(first, first + _TOGETHER) for first in range(0, len(images), _TOGETHER)]
        return torch.cat([explain(images[some], labels[some]) for some in slices])

    return reading(masks(classes), classes, cells=cells), reading(
        masks(queried), queried, cells=cells
    )


def photos(arguments: argparse.Namespace) -> tuple[BlackBox, Images, Labels, Labels]:
    """The black box, the images, the class that it gives each, and another one."""
    if arguments.data == "cifar10":
        black_box = as_black_box(arguments.black_box)
        images, _ = read_cifar10(count=arguments.photos, seed=arguments.seed)
    else:
        black_box = squashing(MODELS[arguments.model][0]())
        entries = [entry for entry in (*part("tune"), *part("report")) if entry.label in TEN]
        images = torch.cat([photo.image for photo in read(entries, black_box)])
    with torch.no_grad():
        classes = torch.cat([black_box(some).argmax(1) for some in images.split(_TOGETHER)])
    if arguments.data == "cifar10":
        return (
            black_box,
            images,
            classes,
            others(classes, black_box.num_classes, seed=arguments.seed),
        )
    # the few that it takes for something else
    sure = torch.tensor([int(c) in TEN for c in classes])
    images, classes = images[sure], classes[sure]
    place = torch.tensor([TEN.index(int(c)) for c in classes])
    return (
        black_box,
        images,
        classes,
        torch.tensor(TEN)[others(place, len(TEN), seed=arguments.seed)],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--masker",
        action="append",
        required=True,
        metavar="NAME=TEXT",
        help="by its text or file, named",
    )
    parser.add_argument("--data", choices=["cifar10", "ten"], default="cifar10")
    parser.add_argument(
        "--black-box", default="cifar10-fitnet", help="with cifar10: a black box by its text"
    )
    parser.add_argument("--model", choices=sorted(MODELS), default="mobilenet_v2", help="with ten")
    parser.add_argument("--photos", type=int, default=2000, help="with cifar10")
    parser.add_argument(
        "--cells",
        type=int,
        help="per side, that the masks are pooled to; default 8 for 32 px, else 14",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also append the rows here, for `zoo.py`")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    black_box, images, classes, queried = photos(arguments)
    cells = arguments.cells or (8 if images.shape[3] < 56 else 14)
    kinds = len(classes.unique())
    print(
        f"{len(images)} images, {kinds} classes; % read right [95 % interval], masks as {cells} "
        f"x {cells} cells.\n"
    )
    print(
        "| masker | class | area | from the mask | from random masks of its values | difference |"
    )
    print("|---|---|---|---|---|---|")
    for text in arguments.masker:
        name, masker = text.split("=", 1)
        found = as_masker(masker)

        def explain(some: Images, labels: Labels, found: Callable[..., Mask] = found) -> Mask:
            return found(black_box, some, labels, generator=Generator().manual_seed(0))

        for which, result in zip(
            ("predicted", "random other"),
            probe(explain, images, classes, queried, cells=cells),
            strict=True,
        ):
            print(f"| {name} | {which} | {result.row()} |", flush=True)
            if arguments.out:
                row = {"photo": which, "method": name, "n": len(images), "cells": result.row()}
                append(arguments.out, row)


if __name__ == "__main__":
    main()
