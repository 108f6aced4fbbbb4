"""MaskChoice: which mask of a ranking to return, scored under a fill it was not optimized for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Generator, Tensor

from saliencykit.alternatives.blur import Blur
from saliencykit.core.black_box import BlackBox
from saliencykit.core.objective import Trial, run_trial
from saliencykit.core.output import Meaning, probability
from saliencykit.core.types import Images, Labels, Mask, PerImage
from saliencykit.maskers.optimization.mask_parametrization import NestedMasks

SCORING_FILL = Blur()
"""The fill for the choice, which is also that of `explain`; no gradient is taken under it."""

_CANDIDATES = 8  # areas, evenly spaced
_LARGER = (0.6, 0.7, 0.8, 0.9)  # where no candidate is confirmed
_SPREAD = 0.1  # of the scores whose areas are averaged


@final
@dataclass(frozen=True)
class Batch:
    """Images that are optimized at once, the black box, and what its output means for them."""

    black_box: BlackBox
    images: Images
    labels: Labels
    output: Meaning

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.images.shape[2], self.images.shape[3]

    def rows(self, index: Tensor) -> "Batch":
        """Some of the images."""
        output = self.output if isinstance(self.output, str) else self.output[index]
        return Batch(self.black_box, self.images[index], self.labels[index], output)


@final
@dataclass(frozen=True)
class MaskChoice:
    """One mask of each image's ranking.

    A candidate's score is `kept - dropped - area`, where both probabilities are relative to the
    whole image and at most 1. A candidate is *confirmed* if it keeps at least half and drops at
    least half. The area is the mean over confirmed candidates, or over all if there is none,
    weighted by `exp(score / 0.1)`: the best one alone would depend on the seed.

    Attributes:
        grid: The rankings, (B, 1, n, n).
        area: Of the chosen masks, (B,).
        score: The largest of the candidates' scores, (B,).
        confirmed: Is there a confirmed candidate? (B,) bool.
    """

    grid: Tensor
    area: PerImage
    score: PerImage
    confirmed: Tensor

    @staticmethod
    def of(batch: Batch, masks: NestedMasks, grid: Tensor) -> "MaskChoice":
        """Choose among areas of the range of `masks`."""
        count = _CANDIDATES if masks.areas[0] < masks.areas[1] else 1
        areas = torch.linspace(*masks.areas, count, dtype=torch.float64, device="cpu")
        return MaskChoice._among(areas.tolist(), batch, masks, grid)

    @staticmethod
    @torch.no_grad()
    def _among(
        areas: Sequence[float], batch: Batch, masks: NestedMasks, grid: Tensor
    ) -> "MaskChoice":
        whole = probability(batch.black_box(batch.images), batch.labels, batch.output)
        whole = whole.clamp_min(torch.finfo(whole.dtype).tiny)
        trials = [_trial(batch, _masks_of(area, masks, grid, batch)) for area in areas]
        kept = torch.stack([trial.kept for trial in trials]) / whole
        dropped = torch.stack([trial.dropped for trial in trials]) / whole
        size = torch.tensor(areas, dtype=kept.dtype, device=kept.device)[:, None]
        confirmed = (kept >= 0.5) & (dropped <= 0.5)
        score = kept.clamp_max(1) - dropped.clamp_max(1) - size
        counted = confirmed | ~confirmed.any(0)
        weight = torch.softmax((score / _SPREAD).masked_fill(~counted, -torch.inf), 0)
        best = score.masked_fill(~counted, -torch.inf).amax(0)
        return MaskChoice(grid, (weight * size).sum(0), best, confirmed.any(0))

    def or_larger(self, batch: Batch, masks: NestedMasks) -> "MaskChoice":
        """Where nothing is confirmed, larger masks of the same rankings."""
        rows = (~self.confirmed).nonzero().flatten()
        areas = [area for area in _LARGER if area > masks.areas[1] > masks.areas[0]]
        if not len(rows) or not areas:
            return self
        larger = MaskChoice._among(areas, batch.rows(rows), masks, self.grid[rows])
        return self.or_better(rows, larger)

    def or_better(self, rows: Tensor, other: "MaskChoice") -> "MaskChoice":
        """These choices, with those of `rows` replaced where the other ones are confirmed or have
        a larger score.
        """
        better = other.confirmed | (other.score > self.score[rows])
        place = rows[better]
        return MaskChoice(
            *(
                own.index_copy(0, place, new[better].to(own.dtype))
                for own, new in zip(self._values, other._values, strict=True)
            )
        )

    def mask(self, batch: Batch, masks: NestedMasks) -> Mask:
        """The chosen masks, (B, 1, H, W)."""
        rows = [
            _masks_of(area, masks, self.grid[row : row + 1], batch)
            for row, area in enumerate(self.area.tolist())
        ]
        return torch.cat(rows)

    @property
    def _values(self) -> tuple[Tensor, ...]:
        return self.grid, self.area, self.score, self.confirmed


def _masks_of(area: float, masks: NestedMasks, grid: Tensor, batch: Batch) -> Mask:
    """The masks of one area, in the dtype of the images."""
    return replace(masks, areas=(area, area)).mask(grid, batch.size, 0.0).to(batch.images.dtype)


def _trial(batch: Batch, masks: Mask) -> Trial:
    given = (batch.black_box, batch.images, batch.labels, masks)
    return run_trial(*given, alternative=SCORING_FILL, generator=Generator(), output=batch.output)
