"""What a classifier makes of a mask: evidence kept and dropped, at equal areas too, insertion and
deletion, crops.

Every edit of a photo is made with one draw of each fill, the same for all methods, so that
differences between them are paired. Rankings break ties by the distance from the photo's middle: a
flat mask becomes a disc. One `Scorer` per photo.
"""

from collections.abc import Sequence
from functools import cached_property
from math import isnan

import numpy as np
import torch
from torch import Generator, Tensor

from benchmarks.data import Photo
from benchmarks.held_out import Road, ShuffledBlocks
from benchmarks.localization import CROPS, CUTS, MODES, Box
from saliencykit.alternatives import Blur
from saliencykit.core import (
    BlackBox,
    Mask,
    compose,
    enlarge_boxes,
    log_probability,
    probability,
    rng,
    tight_boxes,
)
from saliencykit.metrics import RegionSearch, impute, largest_component

FILLS = ("blur", "road", "shuffled")
UNSEEN = ("road", "shuffled")
AREAS = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Shares of the photo at which methods are compared with as much kept or dropped."""
SOME_AREAS = (0.2,)
"""That which every photo has; the others only the few."""
SEARCHED = (0.03, 0.05, 0.08, 0.12, 0.17, 0.25, 0.4, 0.6)
"""Areas whose crops the classifier is shown, for the saliency metric with a search per photo."""
KEEP, LEAVE = 0.9, 0.1
"""Of the whole photo's probability: what a sufficient region keeps and a destroying one leaves."""
SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Steps of the insertion and deletion curves."""
_BATCH = 8  # edits that are held at once


class Scorer:
    """Queries one classifier about edits of one photo.

    Args:
        black_box: Any black box; a fast one.
        photo: With its label: the class that is explained.
    """

    def __init__(self, black_box: BlackBox, photo: Photo) -> None:
        self.black_box = black_box
        self.image = photo.image
        self.label = torch.tensor([photo.label])
        with torch.no_grad():
            logits = black_box(self.image)
        top = logits[0].softmax(0).max(0)
        self.whole = float(probability(logits, self.label, "softmax"))
        self.facts = {
            "label": photo.label,
            "p": round(self.whole, 4),
            "top": int(top.indices),
            "top_p": round(top.values.item(), 4),
        }
        height, width = self.image.shape[2:]
        y, x = np.mgrid[:height, :width].astype(np.float64)
        away = (y - (height - 1) / 2) ** 2 + (x - (width - 1) / 2) ** 2
        self._middle_first = away.ravel().argsort(kind="stable")

    @cached_property
    def _drawn(self) -> tuple[dict[str, Tensor], Tensor]:
        """The fills and the noise of imputed pixels: what only boxes are wanted of goes without."""
        generator = Generator().manual_seed(0)
        fills = {
            "blur": Blur()(self.image, generator=generator),
            "shuffled": ShuffledBlocks()(self.image, generator=generator),
            "gray": torch.full_like(self.image, 0.5),
        }
        std = Road().std
        return fills, rng.normal(self.image, self.image.shape[1:], generator=generator, std=std)

    @cached_property
    def _emptied(self) -> list[float]:
        """The label's probability with the whole photo blurred, and gray."""
        nothing = torch.zeros_like(self.image[:, :1])
        return self.probabilities([(nothing, "blur"), (nothing, "gray")])

    def edit(self, mask: Mask, fill: str) -> Tensor:
        """The photo with `fill` where the mask is 0; `road` takes the mask as the binary one `mask
        >= 0.5`.
        """
        if fill == "road":
            kept = mask >= 0.5
            return torch.where(kept, self.image, impute(self.image, kept) + self._drawn[1])
        return compose(self.image, mask, self._drawn[0][fill])

    def probabilities(self, queried: Sequence[tuple[Mask, str]]) -> list[float]:
        """The label's probability in each of the edits."""
        answers: list[float] = []
        for first in range(0, len(queried), _BATCH):
            edits = torch.cat(
                [self.edit(mask, fill) for mask, fill in queried[first : first + _BATCH]]
            )
            with torch.no_grad():
                answers += probability(
                    self.black_box(edits), self.label.expand(len(edits)), "softmax"
                ).tolist()
        return answers

    def places(self, ranking: Tensor) -> Tensor | None:
        """Each pixel's place in the ranking as a share of the pixels, 0 for the best, (1, 1, H, W);
        None where all are equal.
        """
        flat = ranking.detach().numpy().ravel()
        if flat.min() == flat.max():
            return None
        order = self._middle_first[(-flat[self._middle_first]).argsort(kind="stable")]
        places = np.empty(len(flat), dtype=np.float32)
        places[order] = (np.arange(len(flat)) + 0.5) / len(flat)
        return torch.from_numpy(places).view(1, 1, *ranking.shape[2:])

    def graded(self, mask: Mask) -> dict[str, list[float]]:
        """By fill: kept and dropped probability of the mask as it is."""
        queried = [(side, fill) for fill in FILLS for side in (mask, 1 - mask)]
        return _pairs(FILLS, self.probabilities(queried))

    def at_areas(
        self, places: Tensor, areas: Sequence[float], fills: Sequence[str] = FILLS
    ) -> dict[str, list[float]]:
        """By fill and area (`road/0.1`): kept and dropped probability of the best pixels."""
        names = [f"{fill}/{area}" for fill in fills for area in areas]
        best = {area: (places < area).to(self.image.dtype) for area in areas}
        queried = [
            (side, fill)
            for fill in fills
            for area in areas
            for side in (best[area], 1 - best[area])
        ]
        return _pairs(names, self.probabilities(queried))

    def insertion(self, places: Tensor) -> list[float]:
        """The label's probability at SHARES, as the best pixels appear on the blurred photo."""
        queried = [((places < share).to(self.image.dtype), "blur") for share in SHARES[1:-1]]
        return [round(p, 4) for p in (self._emptied[0], *self.probabilities(queried), self.whole)]

    def deletion(self, places: Tensor) -> list[float]:
        """The label's probability at SHARES, as the best pixels turn mid-gray."""
        queried = [((places >= share).to(self.image.dtype), "gray") for share in SHARES[1:-1]]
        return [round(p, 4) for p in (self.whole, *self.probabilities(queried), self._emptied[1])]

    def crops(self, boxes: dict[str, list[Box]]) -> dict[str, list[list[float]]]:
        """By mode: for each of CROPS, the box's area, log p of its enlarged content and whether its
        top class is the label.
        """
        wanted = {mode: [boxes[mode][CUTS.index(crop)] for crop in CROPS] for mode in MODES}
        answers = self.shown(sorted({box for some in wanted.values() for box in some}))
        return {mode: [answers[box] for box in some] for mode, some in wanted.items()}

    def searched(self, places: Tensor) -> list[list[float]]:
        """For each area of SEARCHED, what `shown` says of the box around the largest component of
        the best pixels.
        """
        best = torch.cat([places < area for area in SEARCHED])
        boxes = tight_boxes(largest_component(best)).tolist()
        answers = self.shown(sorted({tuple(box) for box in boxes}))
        return [answers[tuple(box)] for box in boxes]

    def regions(self, places: Tensor) -> list[float | None]:
        """Areas of the smallest region that keeps KEEP of the label's probability on the blurred
        photo, and of the smallest whose blurring leaves LEAVE of it; None where none does.
        """
        order = (places * places.numel()).floor().long()
        areas = []
        for keeps, limit in ((True, KEEP), (False, LEAVE)):
            found = RegionSearch(keeps, limit, resolution=1 / 64)(
                self.black_box,
                self.image,
                self.label,
                order,
                alternative=Blur(),
                generator=Generator().manual_seed(0),
            )
            area = float(found.area)
            areas.append(None if isnan(area) else round(area, 4))
        return areas

    def shown(self, boxes: Sequence[Box]) -> dict[Box, list[float]]:
        """By box: its area as a share, log p of its enlarged content, and whether its top class is
        the label, 1 or 0.
        """
        answers: dict[Box, list[float]] = {}
        height, width = self.image.shape[2:]
        for first in range(0, len(boxes), _BATCH):
            some = boxes[first : first + _BATCH]
            with torch.no_grad():
                logits = self.black_box(
                    enlarge_boxes(self.image.expand(len(some), -1, -1, -1), torch.tensor(some))
                )
            log_p = log_probability(logits, self.label.expand(len(some)), "softmax")
            for box, value, top in zip(
                some, log_p.tolist(), logits.argmax(1).tolist(), strict=True
            ):
                area = (box[2] - box[0]) * (box[3] - box[1]) / (height * width)
                answers[box] = [round(area, 4), round(value, 4), int(top == int(self.label))]
        return answers


def _pairs(names: Sequence[str], values: list[float]) -> dict[str, list[float]]:
    return {name: [round(v, 4) for v in values[2 * i : 2 * i + 2]] for i, name in enumerate(names)}
