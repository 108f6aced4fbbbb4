"""Can a class be read off a mask's shape? A linear probe, and random masks of the same values to
compare with.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.core.types import Labels, Mask

# of the probe's weights, on standardised features: enough that more features than rows do no harm,
# see the tests
_DECAY = 0.01
_STEPS = 100
# gradient, and change in a step: what comes after takes ten times as long and predicts the same
_FLAT, _STILL = (
    1e-5,
    1e-6,
)


def pooled(masks: Mask, cells: int) -> Tensor:
    """Masks as the means over cells x cells rectangles, (N, cells ** 2).

    Args:
        masks: (N, 1, H, W).
        cells: Per side, >= 1.

    Example:
        >>> pooled(torch.ones(2, 1, 8, 8), 4).shape
        torch.Size([2, 16])
    """
    return F.adaptive_avg_pool2d(masks, cells).flatten(1)


def matched(masks: Mask, *, generator: Generator, cells: int = 7) -> Mask:
    """Random smooth masks with the area of the given ones, and more: pixel for pixel the same
    values, at other places.

    Each mask's values are put in the order of a smooth random field.

    Args:
        masks: (N, 1, H, W).
        generator: The fields are drawn from it.
        cells: Of the field, per side, >= 1.

    Example:
        >>> masks = torch.rand(2, 1, 8, 8)
        >>> random = matched(masks, generator=torch.Generator().manual_seed(0))
        >>> bool((random.flatten(1).sort(1).values == masks.flatten(1).sort(1).values).all())
        True
    """
    field = torch.randn(len(masks), 1, cells, cells, generator=generator)
    order = (
        F.interpolate(field, size=masks.shape[2:], mode="bicubic", align_corners=False)
        .flatten(1)
        .argsort(1)
    )
    return (
        torch.zeros_like(masks)
        .flatten(1)
        .scatter(1, order, masks.flatten(1).sort(1).values)
        .view_as(masks)
    )


def predictions(features: Tensor, classes: Labels, *, folds: int = 5, seed: int = 0) -> Labels:
    """What multinomial logistic regression says of each row, trained on the rows of the other
    folds, (N,).

    Features are standardised by the training folds; a cell that hardly changes tells nothing. The
    weights decay a little, so that more cells than rows do no harm.

    Args:
        features: (N, D).
        classes: (N,), any numbers.
        folds: Parts, >= 2; each is read by a probe that was trained on the others.
        seed: Of the division into folds.

    Example:
        >>> classes = torch.tensor([7, 3] * 10)
        >>> bool((predictions((classes == 7).float()[:, None], classes) == classes).all())
        True
    """
    names, targets = torch.unique(classes, return_inverse=True)
    place = torch.from_numpy(np.random.default_rng(seed).permutation(len(features)) % folds)
    answer = torch.empty_like(classes)
    for fold in range(folds):
        held = place == fold
        answer[held] = names[
            _fitted(features[~held].double(), targets[~held], features[held].double(), len(names))
        ]
    return answer


def _fitted(features: Tensor, targets: Tensor, held: Tensor, count: int) -> Tensor:
    mean, spread = features.mean(0), features.std(0)
    scale = 1 / spread.clamp_min(1e-3)
    known, held = (features - mean) * scale, (held - mean) * scale
    with torch.inference_mode(False), torch.enable_grad():
        known, targets = known.clone(), targets.clone()
        weights = torch.zeros(features.shape[1], count, dtype=torch.float64, requires_grad=True)
        bias = torch.zeros(count, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS(
            [weights, bias],
            max_iter=_STEPS,
            tolerance_grad=_FLAT,
            tolerance_change=_STILL,
            line_search_fn="strong_wolfe",
        )

        def loss() -> Tensor:
            optimiser.zero_grad()
            value = (
                F.cross_entropy(known @ weights + bias, targets) + _DECAY * weights.square().sum()
            )
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimiser.step(loss)  # type: ignore[no-untyped-call]
    return (held @ weights.detach() + bias.detach()).argmax(1)
