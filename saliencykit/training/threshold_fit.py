"""Training of a BoxThreshold: on pasted images without bounding boxes, or on images with them."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torchvision.ops import box_iou

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.types import Mask
from saliencykit.data.dataset import Dataset
from saliencykit.maskers.realtime.box_threshold import (
    LEVELS,
    BoxThreshold,
    level_boxes,
    statistics,
)
from saliencykit.maskers.realtime.masking_network import MaskingNetwork

_OVERLAP = 0.5  # intersection over union of a box that is right
_STEPS, _RATE, _DECAY = 200, 0.02, 0.01
_FOLDS = 4
_FEWEST = 24  # rows


@final
@dataclass(frozen=True)
class ThresholdReport:
    """Box errors in cross-validation: the fraction of rows whose box overlaps the right one by less
    than half.

    Attributes:
        rows: Masks with a known box.
        at_half: Error with the threshold 0.5 for all.
        fixed: Error with the one threshold that was best on the other folds.
        chosen: Error with a threshold chosen for each mask.
        used: What the masker uses: `half`, `fixed` or `chosen`.
    """

    rows: int
    at_half: float
    fixed: float
    chosen: float
    used: str

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.used} is used; boxes that miss, of {self.rows}: {self.at_half:.0%} at 0.5, "
            f"{self.fixed:.0%} at one threshold, {self.chosen:.0%} at a chosen one"
        )


def learn_threshold(network: MaskingNetwork, black_box: BlackBox, boxes: object) -> ThresholdReport:
    """Give a trained network a BoxThreshold, learned on images with bounding boxes.

    Args:
        network: Its `box_threshold` is set, in eval mode.
        black_box: The classifier.
        boxes: A data set; images without boxes are left out, and those without a label get the
            black box's top class.

    Raises:
        InputError: Fewer than 24 images have boxes.
    """
    masks, truths = [], []
    network.eval()
    for each in Dataset.open(boxes, black_box).load():
        if each.image is None or each.boxes is None or not len(each.boxes):
            continue
        image = each.image.to(black_box.device)
        with torch.no_grad():
            features = network.encoder.encode(black_box, image)
            label = each.label
            if label is None:
                label = int(features.logits_of(black_box, image).argmax())
            mask, _ = network(features, torch.tensor([label], device=image.device))
        masks.append(mask.clamp(0, 1).cpu())
        height, width = image.shape[2:]
        truths.append(each.boxes.cpu() / torch.tensor([width, height, width, height], device="cpu"))
    if len(masks) < _FEWEST:
        raise InputError(
            f"fit(boxes=...): {len(masks)} images have bounding boxes; give at least {_FEWEST}, "
            "better 50 to 200."
        )
    network.box_threshold, report = fit_threshold(torch.cat(masks), truths)
    network.box_threshold.to(black_box.device)
    return report


def fit_threshold(masks: Mask, boxes: list[Tensor]) -> tuple[BoxThreshold, ThresholdReport]:
    """A BoxThreshold for masks whose right boxes are known.

    It maximizes the expected number of right boxes over a softmax of the levels. Four folds decide
    what is used: a threshold for each mask, the best one for all, or 0.5; the simpler one where
    they do equally well.

    Args:
        masks: (N, 1, h, w) in [0, 1], at the network's resolution.
        boxes: For each mask (n, 4) x0, y0, x1, y1, fractions of the sides; any of them is right.
    """
    candidates = level_boxes(masks).float()
    overlaps = [box_iou(c, b.float()).amax(1) for c, b in zip(candidates, boxes, strict=True)]
    hits = (torch.stack(overlaps) >= _OVERLAP).float()
    known, middle = statistics(masks), LEVELS.index(0.5)
    fold = torch.arange(len(masks), device="cpu") % _FOLDS
    right = dict.fromkeys(("half", "fixed", "chosen"), 0.0)
    for number in range(_FOLDS):
        learn, test = fold != number, hits[fold == number]
        weight, bias = _learn(known[learn], hits[learn])
        each = (known[fold == number] @ weight + bias).argmax(1)
        right["half"] += float(test[:, middle].sum())
        right["fixed"] += float(test[:, _best(hits[learn])].sum())
        right["chosen"] += float(test.gather(1, each[:, None]).sum())
    used = max(right, key=right.__getitem__)  # the first of equal ones
    threshold = BoxThreshold()
    if used == "fixed":
        threshold.bias.zero_()[_best(hits)] = 1.0
    elif used == "chosen":
        threshold.weight, threshold.bias = _learn(known, hits)
    half, fixed, chosen = (1 - count / len(masks) for count in right.values())
    return threshold, ThresholdReport(len(masks), half, fixed, chosen, used)


def _best(hits: Tensor) -> int:
    """The level with most hits; of equally good ones the middle one."""
    best = (hits.sum(0) == hits.sum(0).max()).nonzero().flatten()
    return int(best[(len(best) - 1) // 2])


def _learn(known: Tensor, hits: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of the linear choice, for statistics as they are."""
    mean, spread = known.mean(0), known.std(0) + 1e-2
    rows = (known - mean) / spread
    with torch.enable_grad():
        weight = rows.new_zeros(rows.shape[1], hits.shape[1], requires_grad=True)
        bias = rows.new_zeros(hits.shape[1], requires_grad=True)
        adam = torch.optim.Adam([weight, bias], lr=_RATE)
        for _ in range(_STEPS):
            expected = ((rows @ weight + bias).softmax(1) * hits).sum(1).mean()
            loss = _DECAY * weight.square().sum() - expected
            weight.grad, bias.grad = torch.autograd.grad(loss, [weight, bias])
            adam.step()
    scaled = weight.detach() / spread[:, None]
    return scaled, bias.detach() - mean @ scaled
