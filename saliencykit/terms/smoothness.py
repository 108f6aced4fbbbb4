"""Smoothness: total variation of the mask."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

from saliencykit.core.objective import Term, Trial
from saliencykit.core.types import PerImage


@final
@dataclass(frozen=True, kw_only=True)
class Smoothness(Term):
    """Total variation: squared differences of neighboring mask pixels.

    `TV(M) = sum_ij (M_ij - M_i,j+1)^2 + sum_ij (M_ij - M_i+1,j)^2`. Keeps the mask from exploiting
    high-frequency artifacts of the classifier. As a sum it depends on the resolution of the mask;
    as a mean (over H*W) hardly.

    Args:
        weight: See Term.
        reduction: `sum` (the paper's formula) or `mean`: the sum divided by H*W.
        border: Weight of an added term, the sum of `M^2` over the outermost pixels (corners twice);
            at least 0. It pushes the mask off the frame.

    Raises:
        InputError: An argument is out of range.

    Example:
        >>> Smoothness(weight=10.0).reduction
        'mean'

    References:
        Dabkowski & Gal 2017, equation 2; the border term: the authors' published code (0.3 there).
    """

    reduction: Literal["mean", "sum"] = "mean"
    border: Annotated[float, "[0, inf]"] = 0.0

    reads_logits: ClassVar[bool] = False

    def penalty(self, trial: Trial) -> PerImage:
        """TV of each mask, >= 0; 0 iff it is constant (and, with a border, 0 there)."""
        mask = trial.mask
        total = (mask[..., 1:] - mask[..., :-1]).square().sum((1, 2, 3))
        total = total + (mask[..., 1:, :] - mask[..., :-1, :]).square().sum((1, 2, 3))
        if self.border:
            squares = mask.square()
            frame = squares[..., 0, :] + squares[..., -1, :]
            sides = squares[..., :, 0] + squares[..., :, -1]
            total = total + self.border * (frame.sum((1, 2)) + sides.sum((1, 2)))
        return total / mask[0].numel() if self.reduction == "mean" else total
