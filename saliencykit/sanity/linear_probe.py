"""A linear probe that predicts the class from the mask, and random masks with the same values as
its control.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.core.types import Labels, Mask

# weight decay on standardized features, enough for more features than rows, see the tests
_DECAY = 0.01
_STEPS = 100
# stop at this gradient, and this change per step: ten times more steps predict the same
_MIN_GRADIENT, _MIN_CHANGE = 1e-5, 1e-6


def pooled(masks: Mask, cells: int) -> Tensor:
    """Mean masks over cells x cells rectangles, (N, cells ** 2).

    Args:
        masks: (N, 1, H, W).
        cells: Per side, >= 1.

    Example:
        >>> pooled(torch.ones(2, 1, 8, 8), 4).shape
        torch.Size([2, 16])
    """
    return F.adaptive_avg_pool2d(masks, cells).flatten(1)


def matched(masks: Mask, *, generator: Generator, cells: int = 7) -> Mask:
    """Smooth random masks with exactly the values of the given ones, so with the same area.

    Each mask's values are sorted into the order of a smooth random field.

    Args:
        masks: (N, 1, H, W).
        generator: Source of the random fields.
        cells: Cells per side of the field, >= 1.

    Example:
        >>> masks = torch.rand(2, 1, 8, 8)
        >>> random = matched(masks, generator=torch.Generator().manual_seed(0))
        >>> bool((random.flatten(1).sort(1).values == masks.flatten(1).sort(1).values).all())
        True
    """
    field = torch.randn(
        len(masks), 1, cells, cells, generator=generator, dtype=torch.float32, device="cpu"
    )
    smooth = F.interpolate(field, size=masks.shape[2:], mode="bicubic", align_corners=False)
    flat, order = masks.flatten(1), smooth.flatten(1).argsort(1)
    return torch.zeros_like(flat).scatter(1, order, flat.sort(1).values).view_as(masks)


def predictions(features: Tensor, classes: Labels, *, folds: int = 5, seed: int = 0) -> Labels:
    """Cross-validated predictions of multinomial logistic regression, (N,).

    Features are standardized by the training folds; a cell that hardly changes is not amplified.
    Weight decay allows for more cells than rows.

    Args:
        features: (N, D).
        classes: (N,), any numbers.
        folds: Number of folds, >= 2; each is predicted by a probe trained on the others.
        seed: Random seed of the folds.

    Example:
        >>> classes = torch.tensor([7, 3] * 10)
        >>> bool((predictions((classes == 7).float()[:, None], classes) == classes).all())
        True
    """
    names, targets = torch.unique(classes, return_inverse=True)
    features = features.double()
    place = torch.from_numpy(np.random.default_rng(seed).permutation(len(features)) % folds)
    predicted = torch.empty_like(classes)
    for fold in range(folds):
        held_out = place == fold
        train, test = features[~held_out], features[held_out]
        predicted[held_out] = names[_predict(train, targets[~held_out], test, len(names))]
    return predicted


def _predict(train: Tensor, targets: Tensor, test: Tensor, count: int) -> Tensor:
    """The predictions for `test` of a probe that is fitted to `train`."""
    mean, scale = train.mean(0), 1 / train.std(0).clamp_min(1e-3)
    train, test = (train - mean) * scale, (test - mean) * scale
    with torch.inference_mode(False), torch.enable_grad():
        train, targets = train.clone(), targets.clone()
        weights = train.new_zeros(train.shape[1], count, requires_grad=True)
        bias = train.new_zeros(count, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [weights, bias],
            max_iter=_STEPS,
            tolerance_grad=_MIN_GRADIENT,
            tolerance_change=_MIN_CHANGE,
            line_search_fn="strong_wolfe",
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.cross_entropy(train @ weights + bias, targets)
            value = value + _DECAY * weights.square().sum()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimizer.step(loss)  # type: ignore[no-untyped-call]
    return (test @ weights.detach() + bias.detach()).argmax(1)
