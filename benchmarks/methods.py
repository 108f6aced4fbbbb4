"""The methods of the results tables: maskers by name, each a function from a photo and a class to
an answer.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from benchmarks.data import Photo
from saliencykit.alternatives import gaussian_blur
from saliencykit.black_boxes import TorchBlackBox
from saliencykit.core import BlackBox, Mask
from saliencykit.registry import as_masker

BASELINES = ("center-box", "whole-image", "ground-truth")
CHEAP = (*BASELINES, "gradient", "cam", "grad-cam")
COSTLY = (
    "rise", "occlusion", "feature-ablation", "score-cam", "integrated-gradients", "smoothgrad",
    "iterative", "meaningful-perturbation", "extremal-perturbation",
)  # fmt: skip
"""50 evaluations a photo and more: on the few photos only."""
QUERIES = ("rise",)
"""They only query, so that they may query the fastest copy of the classifier."""
FORWARD = ("cam",)
"""They, and stored maskers, read feature maps only, which the frozen copy has too."""
SCATTERED = (
    "gradient", "input-x-gradient", "integrated-gradients", "smoothgrad", "guided-backprop",
    "deconvolution",
    "guided-grad-cam",
)  # fmt: skip
"""Maps of single pixels, which make boxes of the whole photo: they are averaged over 4 x 4 pixels
first.
"""
BLIND = BASELINES
"""The class makes no difference to these."""


@dataclass(frozen=True)
class Answer:
    """A mask, what ranks the pixels (the mask itself, if there is nothing finer), its cost, and the
    value at which the masker itself cuts it for a box, if it does.
    """

    mask: Mask
    ranking: Tensor
    seconds: float
    threshold: Tensor | None = None


Method = Callable[[Photo, int], Answer]


@dataclass(frozen=True)
class BlackBoxes:
    """One classifier in three forms.

    Attributes:
        own: The user's black box, with its model.
        frozen: A faster copy that gives gradients.
        quick: The fastest; it may be query-only.
    """

    own: TorchBlackBox
    frozen: BlackBox
    quick: BlackBox


def methods(
    black_boxes: BlackBoxes, names: list[str], maskers: Mapping[str, str]
) -> dict[str, Method]:
    """By name: maskers by their text form or file, `TEXT blurred SIGMA` with the map blurred by
    sigma pixels; `maskers` gives texts their names.
    """
    texts = {name: name for name in names} | dict(maskers)
    return {
        name: ground_truth if text == "ground-truth" else _masker(black_boxes, text)
        for name, text in texts.items()
    }


def is_one_of(text: str, names: tuple[str, ...]) -> bool:
    """Does a masker's text (`rise:samples=2000`) name one of these, whatever its arguments?"""
    return text.split(":")[0].split("/")[-1] in names


def ground_truth(photo: Photo, label: int) -> Answer:
    """1 inside of a person's boxes."""
    mask = torch.zeros(1, 1, *photo.image.shape[2:])
    for x0, y0, x1, y1 in photo.boxes.round().int().tolist():
        mask[..., y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = 1
    return Answer(mask, mask, 0.0)


def averaged(mask: Mask) -> Mask:
    """The mean of 4 x 4 pixels each, at full size, divided by its maximum."""
    smooth = F.interpolate(
        F.avg_pool2d(mask, 4), size=mask.shape[2:], mode="bilinear", align_corners=False
    )
    return smooth / smooth.amax().clamp_min(1e-12)


def _masker(black_boxes: BlackBoxes, text: str) -> Method:
    text, _, sigma = text.partition(" blurred ")  # in pixels
    masker = as_masker(text)
    black_box = (
        black_boxes.quick
        if is_one_of(text, QUERIES)
        else black_boxes.frozen
        if is_one_of(text, (*COSTLY, *FORWARD)) or text.endswith(".safetensors")
        else black_boxes.own
    )

    def answer(photo: Photo, label: int) -> Answer:
        start = time.process_time()
        found = masker.attribute(
            black_box, photo.image, torch.tensor([label]), generator=Generator().manual_seed(0)
        )
        seconds = time.process_time() - start
        if sigma:
            mask = gaussian_blur(found.mask, float(sigma))
            mask = mask / mask.amax().clamp_min(1e-12)
            return Answer(mask, mask, seconds)
        if is_one_of(text, SCATTERED):
            mask = averaged(found.mask)
            return Answer(mask, mask, seconds)
        ranking = found.mask if found.attributions is None else found.attributions
        return Answer(found.mask, ranking, seconds, found.box_threshold)

    return answer
