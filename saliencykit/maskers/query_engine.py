"""Queries about one image under many masks, with the same fill for all of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Generator, Tensor

from saliencykit.core import rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.output import Meaning, RelativeScores, probability
from saliencykit.core.query_batches import micro_batch, relative_output, shared_fill
from saliencykit.core.types import Images, Labels, Logits, Mask, PerImage

ROUNDING = 1e-5
"""Relative to p(label): smaller differences between float32 probabilities are rounding noise."""


@final
@dataclass(frozen=True, eq=False)
class MaskedQueries:
    """One image, ready to be queried under many masks.

    Attributes:
        black_box: The optimized copy that is queried.
        image: (1, C, H, W).
        label: (1,) int64.
        alternative: What replaces the masked pixels, bound to the black box.
        seed: Seed of the fill. An alternative whose fill depends on the mask draws from a new
            generator with this seed for every batch, so that all masks share its random numbers.
        generator: Started from `seed`; the fill has been drawn from it.
        fill: (1, C, H, W), the fill of all masks; None if it depends on the mask.
        output: What a column of the logits means; for scores, relative to this image.
    """

    black_box: BlackBox
    image: Images
    label: Labels
    alternative: Alternative
    seed: int
    generator: Generator
    fill: Images | None
    output: Meaning

    def edits(self, masks: Mask) -> Images:
        """The image under each mask (n, 1, H, W), as (n, C, H, W)."""
        masks = masks.to(self.image.dtype)
        if self.fill is None:
            images = self.image.expand(len(masks), -1, -1, -1)
            generator = Generator().manual_seed(self.seed)
            return self.alternative.edit(images, masks.clamp(0, 1), generator)
        # `compose` as fill + mask * (image - fill): one pass over memory instead of four
        return torch.addcmul(self.fill, self._difference, masks)

    def logits(self, count: int, masks: Callable[[slice], Mask]) -> Logits:
        """The logits under `count` masks, (count, K).

        Args:
            count: Number of masks.
            masks: Makes the masks (n, 1, H, W) of a slice of the `count`. Called once per batch,
                so that only one batch of masks is in memory.
        """
        step = micro_batch(self.black_box)
        slices = (slice(at, min(at + step, count)) for at in range(0, count, step))
        return torch.cat([self.black_box(self.edits(masks(part))) for part in slices])

    def evidence(self, logits: Logits) -> PerImage:
        """p(label) for each row of logits, (n,). For scores the score itself, negated where the
        image lowers it: the whole image has more than the replaced one.
        """
        if not isinstance(self.output, RelativeScores):
            return probability(logits, self.label.expand(len(logits)), self.output)
        return (logits * self.output.direction)[:, self.label[0]]

    @cached_property
    def _difference(self) -> Tensor:
        assert self.fill is not None
        return self.image - self.fill


def masked_queries(
    black_box: BlackBox,
    images: Images,
    labels: Labels,
    alternative: Alternative,
    generator: Generator,
) -> Iterator[MaskedQueries]:
    """Each image with a fill of its own, on one optimized copy of the black box.

    All images start from the same seed, so the result for an image does not depend on its batch.

    Args:
        black_box: The classifier.
        images: (B, C, H, W).
        labels: (B,) int64.
        alternative: What replaces the masked pixels.
        generator: Advanced by one number.

    Example:
        >>> from saliencykit.alternatives import Constant
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> halves = torch.stack([torch.ones(1, 16, 16).tril(), torch.ones(1, 16, 16).triu()])
        >>> for queries in masked_queries(black_box, images, labels, Constant(color=0.5), g):
        ...     print(queries.logits(2, lambda part: halves[part]).shape)
        torch.Size([2, 4])
        torch.Size([2, 4])
    """
    seed = rng.seed(generator)
    alternative = alternative.for_black_box(black_box)
    optimized = black_box.optimized_for(images)
    for image, label in zip(images[:, None], labels[:, None], strict=True):
        own = Generator().manual_seed(seed)
        fill = shared_fill(alternative, image, own)
        output = relative_output(optimized, image, alternative, Generator().manual_seed(seed))
        yield MaskedQueries(optimized, image, label, alternative, seed, own, fill, output)
