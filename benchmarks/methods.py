"""The methods of the results table, each a function from a photo and a class to an answer: peers, baselines, named maskers."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from benchmarks.data import Photo
from benchmarks.masks import captum_grad_cam, captum_gradient
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.types import Mask
from saliencykit.registry import as_masker

BASELINES = ("centre-box", "whole-image", "ground-truth")
CHEAP = (*BASELINES, "gradient", "cam", "grad-cam")
COSTLY = ("rise", "iterative", "occlusion")
"""More than 50 evaluations a photo: on the few photos only."""
QUERIES = ("rise", "occlusion")
"""They only ask, so that they may ask the fastest copy of the classifier."""
BLIND = BASELINES
"""The class makes no difference to these."""


@dataclass(frozen=True)
class Answer:
    """A mask, what ranks the pixels (the mask itself, if there is nothing finer), and its cost."""

    mask: Mask
    ranking: Tensor
    seconds: float


Method = Callable[[Photo, int], Answer]


@dataclass(frozen=True)
class Boxes:
    """One classifier in three forms.

    Attributes:
        own: The user's box, with its model.
        frozen: A faster copy that gives gradients.
        quick: The fastest; it may be query-only.
        layer: The name of the layer with the last convolutional features.
    """

    own: TorchBlackBox
    frozen: BlackBox
    quick: BlackBox
    layer: str


def methods(boxes: Boxes, names: list[str], maskers: Mapping[str, str]) -> dict[str, Method]:
    """By name: the peers and baselines of CHEAP, and maskers by their text form or file; `maskers` gives texts their names."""
    layer = boxes.own.model.get_submodule(boxes.layer)
    peers: dict[str, Callable[[Photo, int], Mask]] = {
        "ground-truth": lambda photo, label: object_boxes(photo),
        "gradient": lambda photo, label: gradient(boxes.own, photo, label),
        "cam": lambda photo, label: class_map(boxes.own, layer, photo, label),
        "grad-cam": lambda photo, label: captum_grad_cam(boxes.own, photo, torch.tensor([label]), layer),
    }
    texts = {name: name for name in names} | dict(maskers)
    return {name: _timed(peers[name]) if name in peers else _masker(boxes, texts[name]) for name in [*names, *maskers]}


def is_one_of(text: str, names: tuple[str, ...]) -> bool:
    """Does a masker's text (`rise:samples=2000`) name one of these, whatever its arguments?"""
    return text.split(":")[0].split("/")[-1] in names


def object_boxes(photo: Photo) -> Mask:
    """1 inside of the ground truth's boxes."""
    mask = torch.zeros(1, 1, *photo.image.shape[2:])
    for x0, y0, x1, y1 in photo.boxes.round().int().tolist():
        mask[..., y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = 1
    return mask


def gradient(box: TorchBlackBox, photo: Photo, label: int) -> Mask:
    """Captum's Saliency, largest channel, mean of 4 x 4 pixels (single ones make scattered boxes), divided by its maximum."""
    fine = captum_gradient(box, photo, torch.tensor([label]))
    smooth = F.interpolate(F.avg_pool2d(fine, 4), size=fine.shape[2:], mode="bilinear", align_corners=False)
    return smooth / smooth.amax().clamp_min(1e-12)


def class_map(box: TorchBlackBox, layer: nn.Module, photo: Photo, label: int) -> Mask:
    """CAM: the classifier head's row of the class at each position of the last features, signed, from its minimum to its maximum.

    Grad-CAM is its positive part wherever the features are averaged and then classified.
    """
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
    try:
        with torch.no_grad():
            box(photo.image)
    finally:
        handle.remove()
    coarse = torch.einsum("bchw,c->bhw", kept[0], head_rows(box)[label])[:, None]
    fine = F.interpolate(coarse, size=photo.image.shape[2:], mode="bilinear", align_corners=False)
    low, high = fine.amin(), fine.amax()
    return ((fine - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)


def head_rows(box: TorchBlackBox) -> Tensor:
    """The weights of the last linear layer or 1 x 1 convolution, (K, features)."""
    heads = [m for m in box.model.modules() if isinstance(m, nn.Linear | nn.Conv2d) and len(m.weight) == box.num_classes]
    return heads[-1].weight.detach().flatten(1)


def _masker(boxes: Boxes, text: str) -> Method:
    masker = as_masker(text)
    box = boxes.quick if is_one_of(text, QUERIES) else boxes.frozen if is_one_of(text, COSTLY) else boxes.own

    def answer(photo: Photo, label: int) -> Answer:
        start = time.process_time()
        found = masker.find(box, photo.image, torch.tensor([label]), generator=Generator().manual_seed(0))
        return Answer(found.mask, found.mask if found.scores is None else found.scores, time.process_time() - start)

    return answer


def _timed(function: Callable[[Photo, int], Mask]) -> Method:
    def answer(photo: Photo, label: int) -> Answer:
        start = time.process_time()
        mask = function(photo, label)
        return Answer(mask, mask, time.process_time() - start)

    return answer
