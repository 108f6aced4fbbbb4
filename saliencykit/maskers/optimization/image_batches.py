"""What maskers that optimize a mask per image share: batches of images, and checked gradients."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import finite_rows, name_of
from saliencykit.core.errors import ContractError, GradientError
from saliencykit.core.types import Images, Labels
from saliencykit.maskers.normalize import NONFINITE_HINT

Result = TypeVar("Result")

_EDITS = 32  # with gradients, at once, for a black box without a `max_batch_size`


def optimize_in_batches(
    optimize: Callable[[Images, Labels], Result],
    images: Images,
    labels: Labels,
    batch_size: int,
    who: str,
) -> list[Result]:
    """The result of `optimize` for each batch of images.

    Raises:
        ContractError: From `optimize`, with the image named for which it also fails alone.
    """
    results = []
    for first in range(0, len(images), batch_size):
        batch = images[first : first + batch_size], labels[first : first + batch_size]
        try:
            results.append(optimize(*batch))
        except ContractError as error:
            row = first + _failing_row(optimize, *batch)
            raise ContractError(
                f"{who} stopped at image row {row} of {len(images)}: {error}"
            ) from error
    return results


def default_batch_size(black_box: BlackBox, images: Images, edits: int) -> int:
    """Images to optimize at once: one on a CPU, where larger batches are not faster, else as many
    as fit in `max_batch_size` with `edits` each.
    """
    if images.device.type == "cpu":
        return 1
    return max(1, (black_box.max_batch_size or _EDITS) // edits)


def grid_gradient(
    black_box: BlackBox,
    alternative: Alternative,
    grid: Tensor,
    loss: Tensor,
    penalty: Tensor | float = 0.0,
) -> Tensor:
    """The gradient of `(loss + penalty).sum()` with respect to the values that make the mask.

    Args:
        black_box: Where the loss comes from.
        alternative: What replaced the pixels outside the mask.
        grid: (n, ...), requires a gradient.
        loss: Computed from logits; must depend on the grid.
        penalty: Computed from the mask alone.

    Raises:
        GradientError: The loss does not depend on the grid.
        ContractError: The gradient is NaN or infinite.
    """
    if not loss.requires_grad:
        raise GradientError(
            f"{name_of(black_box)} is differentiable, but no gradient reached the mask through "
            f"{alternative}; use masker='rise' or 'occlusion', or an alternative that is "
            "differentiable with respect to the mask."
        )
    gradient = torch.autograd.grad((loss + penalty).sum(), grid)[0]
    if bad := finite_rows(gradient):
        raise ContractError(f"the gradient is NaN or infinite in row {bad[0]}; {NONFINITE_HINT}")
    return gradient


def _failing_row(
    optimize: Callable[[Images, Labels], object], images: Images, labels: Labels
) -> int:
    """Which image of a failed batch fails alone; the first, if none does."""
    for row in range(len(images)):
        try:
            optimize(images[row : row + 1], labels[row : row + 1])
        except ContractError:
            return row
    return 0
