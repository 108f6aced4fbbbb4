"""Can the level of a mask's box be chosen so that fewer small objects are missed? Ridge regression
from the mask's shape, with more weight on small objects, learned on boxes of the training half.

    python -m benchmarks.box_levels mobilenet_v2 masker.safetensors
"""

import sys

import numpy as np
import torch
from scipy import ndimage
from torch import Generator

from benchmarks.localization import Map
from benchmarks.results import black_boxes
from benchmarks.split import PARTS, part, read
from benchmarks.teachers import hits
from saliencykit.evaluation import interval
from saliencykit.maskers.realtime.box_threshold import LEVELS
from saliencykit.registry import as_masker


def measured(model: str, text: str, name: str) -> tuple[Map, Map, Map, Map]:
    """Of the photos of a part: size groups, shapes, whether the box at each level is right, and the
    levels that the masker itself chooses.
    """
    forms, masker, masks, boxes, own = black_boxes(model), as_masker(text), [], [], []
    for photo in read(part(name), forms.own):
        given = (forms.frozen, photo.image, torch.tensor([photo.label]))
        found = masker.attribute(*given, generator=Generator().manual_seed(0))
        masks.append(found.mask if found.low_res_mask is None else found.low_res_mask)
        boxes.append(photo.boxes / photo.image.shape[3])
        cut = 0.5 if found.box_threshold is None else float(found.box_threshold)
        own.append(LEVELS.index(round(cut, 2)))
    groups = np.array([entry.size_group for entry in part(name)])
    shapes = np.array([shape_of(mask[0, 0].numpy()) for mask in masks])
    return groups, shapes, hits(torch.cat(masks), boxes).numpy(), np.array(own)


def shape_of(mask: Map) -> list[float]:
    """Components, spread and place of a mask at four levels; entropy, quantiles, edges, borders."""
    values: list[float] = []
    for level in (0.3, 0.5, 0.7, 0.85):
        labels, _ = ndimage.label(mask >= level)
        sizes = np.append(np.sort(np.bincount(labels.ravel())[1:])[::-1], [0, 0])
        values += [len(sizes) - 2, sizes[0] / mask.size, *(sizes[:2] / max(sizes.sum(), 1))]
        for places in np.nonzero(labels) if sizes[0] else np.zeros((2, 1)):
            values += [places.std() / len(mask), abs(places.mean() / (len(mask) - 1) - 0.5)]
    share, edges = mask / max(mask.sum(), 1e-6), np.hypot(*np.gradient(mask))
    values += [-(share * np.log(share + 1e-12)).sum(), mask.mean(), edges.mean(), edges.max()]
    sides = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    return [
        *values,
        *np.quantile(mask, (0.5, 0.75, 0.9, 0.99, 1)),
        *(side.mean() for side in sides),
    ]


def main() -> None:
    torch.set_num_threads(1)
    rows = {name: measured(*sys.argv[1:3], name) for name in PARTS}
    groups, shapes, right, _ = rows["train"]
    middle, spread = shapes.mean(0), shapes.std(0) + 1e-2
    for weight in (1, 2, 3):
        weights = np.where(groups == 0, weight, 1)[:, None]
        known = np.c_[(shapes - middle) / spread, np.ones(len(shapes))]
        squares = known.T @ (known * weights) + 0.01 * len(known) * np.eye(known.shape[1])
        slope = np.linalg.solve(squares, known.T @ (right * weights))
        for name, (group, shape, correct, own) in list(rows.items())[1:]:
            chosen = (np.c_[(shape - middle) / spread, np.ones(len(shape))] @ slope).argmax(1)
            for who, levels in (("masker", own), (f"small x {weight}", chosen)):
                wrong = 100 * (1 - correct[np.arange(len(own)), levels])
                sizes = " / ".join(f"{wrong[group == size].mean():.0f}" for size in range(4))
                gains = interval(wrong - 100 * (1 - correct[np.arange(len(own)), own]))
                gain = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*gains)
                print(name, who, sizes, f"all {wrong.mean():.1f}, less the masker's own {gain}")


if __name__ == "__main__":
    main()
