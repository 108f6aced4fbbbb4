"""Targets: what of a model's raw answer is explained, as one score per image.

A target is a callable from the answer of a batch (a tensor, tuple, dict or object, as the model
returns it) to scores (B,), or (B, K) for K things that can be explained. These are ready ones; any
function is another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError

_MAPS = ("out", "logits", "masks")
_EMBEDDINGS = ("image_embeds", "pooler_output", "embeddings", "features", "logits")
_ROUNDING = 1e-3  # of an overlap: bounding boxes of one detection in batches of different sizes


@final
@dataclass(frozen=True, eq=False)
class Similarity:
    """The cosine similarity of an image's embedding and a reference, in [-1, 1].

    The answer is an embedding (B, D), or has one as `image_embeds`, `pooler_output`, `embeddings`
    or `features`. For CLIP the reference may be the embedding of a text.

    Args:
        reference: (D,) or (1, D): the embedding of a reference image or text.

    Raises:
        InputError: The reference is no vector.

    Example:
        >>> Similarity(torch.tensor([1.0, 0.0]))(torch.tensor([[2.0, 0.0], [0.0, 3.0]])).tolist()
        [1.0, 0.0]
    """

    reference: Tensor = field(repr=False)

    def __post_init__(self) -> None:
        """Check the reference."""
        reference = torch.as_tensor(self.reference, device="cpu").detach()
        if reference.numel() != reference.shape[-1:].numel() or not reference.is_floating_point():
            raise InputError(
                "Similarity takes a reference embedding (D,) of floats; got "
                f"{reference.dtype} of shape {tuple(reference.shape)}. Write "
                "Similarity(model(reference_image)[0])."
            )
        object.__setattr__(self, "reference", reference.flatten())

    def __call__(self, answer: Any) -> Tensor:
        """The similarities, (B,)."""
        embedding = _entry(answer, _EMBEDDINGS, 2, "Similarity", "an embedding (B, D)")
        return F.cosine_similarity(embedding, self.reference.to(embedding)[None], dim=1)


@final
@dataclass(frozen=True, eq=False)
class SegmentationClass:
    """The mean logit of a class over a region of a segmentation map.

    The answer is a map (B, K, h, w), or has one as `out` or `logits`.

    Args:
        label: The class, an index of the map's channels.
        region: Which pixels count: a bool or float mask (H, W) of any size, or a bounding box
            (x0, y0, x1, y1) as fractions of the width and height. None: all of them. Usually the
            segment that the model found, `model(image)["out"][0].argmax(0) == label`.

    Raises:
        InputError: The region is empty or of another form.

    Example:
        >>> maps = torch.zeros(1, 2, 4, 4)
        >>> maps[0, 1, :2] = 3.0
        >>> SegmentationClass(1, region=(0, 0, 1, 0.5))({"out": maps}).tolist()
        [3.0]
    """

    label: int
    region: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check the region."""
        if self.region is None:
            return
        region = torch.as_tensor(self.region, device="cpu").detach().float()
        if region.shape != (4,) and region.ndim != 2:
            raise InputError(
                "SegmentationClass takes region= as a mask (H, W) or a bounding box (x0, y0, x1, "
                f"y1) of fractions; got shape {tuple(region.shape)}."
            )
        x0, y0, x1, y1 = region.tolist() if region.ndim == 1 else (0.0, 0.0, 1.0, 1.0)
        if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1) or not bool(region.any()):
            raise InputError(
                "SegmentationClass: the region is empty or outside of the image; a bounding box "
                "is (x0, y0, x1, y1) in fractions of the width and height, 0 <= x0 < x1 <= 1."
            )
        object.__setattr__(self, "region", region)

    def __call__(self, answer: Any) -> Tensor:
        """The mean logits, (B,)."""
        maps = _entry(answer, _MAPS, 4, "SegmentationClass", "a map (B, K, h, w)")
        if not 0 <= self.label < maps.shape[1]:
            raise InputError(
                f"SegmentationClass({self.label}): the map has the classes 0..{maps.shape[1] - 1}."
            )
        own = maps[:, self.label]
        if self.region is None:
            return own.mean((1, 2))
        weight = _weights(self.region.to(own.device), (own.shape[1], own.shape[2])).to(own)
        return (own * weight).sum((1, 2)) / weight.sum()


@final
@dataclass(frozen=True)
class DetectionScore:
    """How well an object is still detected: over the detections of its class, the largest product
    of overlap (intersection over union) and confidence, in [0, 1]; 0 where there is none.

    The answer is that of torchvision's detectors (a list with `boxes`, `labels` and `scores` for
    each image), or has `pred_boxes` and `logits` as DETR's.

    Args:
        bbox: (x0, y0, x1, y1) of the object: in pixels of the input for torchvision's detectors, as
            fractions of the width and height for DETR's.
        label: Its class, as the detector numbers them.

    Raises:
        InputError: The bounding box is empty.

    Example:
        >>> found = {"boxes": torch.tensor([[0.0, 0.0, 2.0, 2.0]]), "labels": torch.tensor([7])}
        >>> answer = [found | {"scores": torch.tensor([0.5])}]
        >>> DetectionScore((0, 0, 2, 1), label=7)(answer).tolist()
        [0.25]

    References:
        Petsiuk et al. 2021, "Black-box Explanation of Object Detectors via Saliency Maps" (D-RISE),
        section 3.2, without the similarity of the class vectors.
    """

    bbox: tuple[float, float, float, float]
    label: int

    def __post_init__(self) -> None:
        """Check the bounding box."""
        x0, y0, x1, y1 = (float(v) for v in self.bbox)
        if not (x0 < x1 and y0 < y1):
            raise InputError(
                f"DetectionScore takes bbox=(x0, y0, x1, y1) with x0 < x1 and y0 < y1; got "
                f"{tuple(self.bbox)}."
            )
        object.__setattr__(self, "bbox", (x0, y0, x1, y1))

    def __call__(self, answer: Any) -> Tensor:
        """The scores, (B,)."""
        return torch.stack([self._best(*found) for found in _detections(answer)])

    def _best(self, boxes: Tensor, labels: Tensor, scores: Tensor) -> Tensor:
        own = labels == self.label
        if not bool(own.any()):
            return scores.sum() * 0  # keeps the graph
        return (self._overlap(boxes[own]) * scores[own]).amax()

    def _overlap(self, boxes: Tensor) -> Tensor:
        """The intersection over union with each of the bounding boxes (n, 4)."""
        mine = boxes.new_tensor(self.bbox)
        sides = torch.minimum(boxes[:, 2:], mine[2:]) - torch.maximum(boxes[:, :2], mine[:2])
        shared = sides.clamp_min(0).prod(1)
        union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (mine[2:] - mine[:2]).prod() - shared
        overlap = shared / union.clamp_min(1e-12)
        # at full overlap the gradient jumps, and rounding errors would choose its sign
        return overlap.detach().where(overlap > 1 - _ROUNDING, overlap)


def _entry(answer: Any, names: Sequence[str], ndim: int, who: str, expected: str) -> Tensor:
    """The tensor with so many axes in an answer: itself, or under one of the names."""
    if isinstance(answer, Mapping):
        candidates = [answer.get(name) for name in names]
    elif isinstance(answer, tuple | list):
        candidates = [*(getattr(answer, name, None) for name in names), *answer]
    else:
        candidates = [answer, *(getattr(answer, name, None) for name in names)]
    for candidate in candidates:
        if isinstance(candidate, Tensor) and candidate.ndim == ndim:
            return candidate
    got = tuple(answer.shape) if isinstance(answer, Tensor) else name_of(answer)
    raise InputError(
        f"{who} needs {expected}, as the answer itself or as {', '.join(names)}; got {got}. Write "
        "target=lambda answer: ..., which returns one score per image."
    )


def _weights(region: Tensor, size: tuple[int, int]) -> Tensor:
    """A region as weights (h, w) of a map."""
    if region.ndim == 2:
        return F.interpolate(region[None, None], size=size, mode="area")[0, 0]
    x, y = ((torch.arange(n, device=region.device) + 0.5) / n for n in (size[1], size[0]))
    inside = (y[:, None] > region[1]) & (y[:, None] < region[3])
    weights = inside & (x > region[0]) & (x < region[2])
    if not bool(weights.any()):
        raise InputError(
            f"SegmentationClass: the bounding box {tuple(region.tolist())} is smaller than a "
            f"position of the {size[0]}x{size[1]} map; enlarge it."
        )
    return weights.float()


def _detections(answer: Any) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Bounding boxes (n, 4), labels (n,) and confidences (n,) of each image."""
    if isinstance(answer, tuple | list) and all(
        isinstance(each, Mapping) and {"boxes", "labels", "scores"} <= set(each) for each in answer
    ):
        return [(each["boxes"], each["labels"], each["scores"]) for each in answer]
    entries = answer if isinstance(answer, Mapping) else getattr(answer, "__dict__", {})
    boxes, logits = entries.get("pred_boxes"), entries.get("logits")
    if isinstance(boxes, Tensor) and isinstance(logits, Tensor):
        center, sides = boxes[..., :2], boxes[..., 2:]
        corners = torch.cat([center - sides / 2, center + sides / 2], -1)
        classes = logits.softmax(-1)[..., :-1]  # the last column is "no object"
        size = (len(boxes), boxes.shape[1], classes.shape[2])
        labels = torch.arange(size[2], device=boxes.device).expand(size)
        every = corners[:, :, None].expand(*size, 4)
        rows = zip(every, labels, classes, strict=True)
        return [(a.flatten(0, 1), b.flatten(), c.flatten()) for a, b, c in rows]
    raise InputError(
        "DetectionScore needs a list with boxes, labels and scores for each image, or pred_boxes "
        f"and logits; got {name_of(answer)}. Write target=lambda answer: ..., which returns one "
        "score per image."
    )
