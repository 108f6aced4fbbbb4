"""What the maskers on superpixels share: random sets of superpixels, the answers to them, and a map
of the weights.
"""

from typing import Protocol

import torch
from torch import Generator, Tensor

from saliencykit import Alternative, BlackBox, MaskerOutput, compose
from saliencykit.core import rng
from saliencykit.core.query_batches import shared_fill
from saliencykit.core.types import Images, Labels
from saliencykit.maskers.normalize import mask_from_attributions, probabilities
from saliencykit_superpixel.segments import superpixels

_TOGETHER = 32  # edits at once: 19 MB of pixels at 224 px
_ROUNDING = 1e-5  # of the largest answer: a map below it says nothing, the answers are float32


class LinearModel(Protocol):
    """What one masker has and the other does not: which sets are asked, and what is made of the
    answers.
    """

    @property
    def segments(self) -> int:
        """About how many superpixels."""

    @property
    def compactness(self) -> float:
        """Of the superpixels."""

    @property
    def alternative(self) -> Alternative:
        """What stands where superpixels are dropped."""

    def sets(self, image: Images, count: int, generator: Generator) -> Tensor:
        """Which of the `count` superpixels are kept, (n, count) of zeros and ones, float64."""

    def solve(self, sets: Tensor, answers: Tensor) -> tuple[Tensor, Tensor | None]:
        """The superpixels' scores and, where known, their standard errors, (count,)."""


def explained(
    model: LinearModel, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
) -> MaskerOutput:
    """Each picture cut and fitted on its own; the positive part of the scores over their maximum is
    the mask.

    Args:
        model: Which sets are asked, and what is made of the answers.
        black_box: The classifier.
        images: (B, C, H, W).
        labels: (B,).
        generator: Moves on by one number.
    """
    seed = rng.seed(generator)
    black_box, alternative = (
        black_box.optimized_for(images),
        model.alternative.for_black_box(black_box),
    )
    exact = torch.promote_types(images.dtype, torch.float32)
    scores, errors, floors = [], [], []
    for image, label in zip(images[:, None], labels[:, None], strict=True):
        numbers = superpixels(image, model.segments, model.compactness)
        sets = model.sets(image, int(numbers.max()) + 1, Generator().manual_seed(seed))
        answers = _answers(black_box, image, label, sets, numbers, alternative, seed)
        weights, error = model.solve(sets, answers)
        scores.append(weights[numbers])
        errors.append(None if error is None else error[numbers])
        floors.append(float(answers.max()) * _ROUNDING)
    found = torch.stack(scores)[:, None].to(images.device, exact)
    known = [error for error in errors if error is not None]
    mask = mask_from_attributions(found, found.new_tensor(floors))
    return MaskerOutput(mask, found, torch.stack(known)[:, None].to(found) if known else None)


def _answers(
    black_box: BlackBox,
    image: Images,
    label: Labels,
    sets: Tensor,
    numbers: Tensor,
    alternative: Alternative,
    seed: int,
) -> Tensor:
    """The label's probability under each set, (n,) float64 on the CPU."""
    answers, numbers = [], numbers.to(image.device)
    fill = shared_fill(alternative, image, Generator().manual_seed(seed))
    for some in torch.split(sets, _TOGETHER):
        masks = some.to(image)[:, None, numbers]
        if fill is not None:
            edits = compose(image, masks, fill)
        else:
            edits = alternative.edit(
                image.expand(len(masks), -1, -1, -1), masks, Generator().manual_seed(seed)
            )
        answers.append(probabilities(black_box, edits, label))
    return torch.cat(answers).double().cpu()
