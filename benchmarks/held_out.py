"""Fills that no default, preset or recipe of this project has seen: only scoring uses them.

A mask that was optimized against a fill can exploit that fill. What it keeps under these two, which
nothing was developed with, is the honest figure. `tests/benchmarks/test_held_out.py` reads the
source and fails where the package or a recipe refers to this file, or where anything but metrics
refers to the fills that they score with: ShuffledBlocks, which is the one here too, and a faster
imputation; the exact one here is its reference.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Generator, Tensor

from saliencykit.core import Alternative, Images, InputError, Mask, compose, rng
from saliencykit.metrics import ShuffledBlocks

__all__ = ["Road", "ShuffledBlocks"]
_NEIGHBORS = [
    (dy, dx, 1 / 12 if dy and dx else 1 / 6) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx
]


@final
@dataclass(frozen=True, kw_only=True)
class Road(Alternative):
    """Noisy linear imputation: each removed pixel is the weighted mean of its eight neighbors,
    removed ones included, plus noise.

    What a classifier sees where nothing draws an edge around the hole. Large holes become
    smooth gradients. A mask is used as the binary one `mask >= 0.5`, in the image as well as in
    the system of equations; an image of which nothing is kept becomes its own mean color.

    Args:
        std: Standard deviation of the Gaussian noise on the removed pixels, in units of pixels in
            [0, 1], >= 0.

    Raises:
        InputError: std is negative.

    References:
        Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods"
        (ROAD), section 5: weights 1/6 and 1/12, noise 0.01.
    """

    std: float = 0.01

    uses_mask = True

    def __post_init__(self) -> None:
        """Check the number."""
        if not 0 <= self.std < float("inf"):
            raise InputError(f"Road(std={self.std}): std is >= 0.")

    def fill(self, images: Images, generator: Generator, mask: Mask | None = None) -> Images:
        """The images with the pixels outside the mask imputed; without a mask, all of them are."""
        kept = (
            images.new_zeros(len(images), *images.shape[2:]) >= 0.5
            if mask is None
            else mask[:, 0] >= 0.5
        )
        grain = rng.normal(images, images.shape[1:], generator=generator, std=self.std)
        rows = [_impute(image, inside) for image, inside in zip(images, kept, strict=True)]
        return torch.stack(rows) + grain * (~kept)[:, None]

    def edit(self, images: Images, mask: Mask, generator: Generator) -> Images:
        """The images with the pixels outside the binary mask imputed."""
        return compose(
            images, (mask >= 0.5).to(images.dtype), self(images, generator=generator, mask=mask)
        )


def _impute(image: Tensor, kept: Tensor) -> Tensor:
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import splu

    inside = kept.cpu().numpy()
    missing = np.flatnonzero(~inside)
    if len(missing) == 0:
        return image.clone()
    if len(missing) == inside.size:
        return image.mean((1, 2), keepdim=True).expand_as(image).clone()
    height, width = inside.shape
    # float64: it would be the caller's
    pixels = image.detach().double().cpu().numpy().reshape(len(image), -1).copy()
    number = np.full(inside.size, -1)
    number[missing] = np.arange(len(missing))
    y, x = np.divmod(missing, width)
    diagonal, known = np.zeros(len(missing)), np.zeros((len(missing), len(image)))
    rows, columns, values = [], [], []
    for dy, dx, weight in _NEIGHBORS:
        there = (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
        here = np.flatnonzero(there)
        other = (y[here] + dy) * width + x[here] + dx
        diagonal[here] += (
            # at the image's edge the weights of the neighbors that exist sum to less than 1
            weight
        )
        unknown = number[other] >= 0
        rows.append(here[unknown])
        columns.append(number[other[unknown]])
        values.append(np.full(int(unknown.sum()), -weight))
        known[here[~unknown]] += weight * pixels[:, other[~unknown]].T
    each = np.arange(len(missing))
    entries = (
        np.concatenate([*values, diagonal]),
        (np.concatenate([*rows, each]), np.concatenate([*columns, each])),
    )
    system = coo_matrix(entries, shape=(len(missing), len(missing))).tocsc()
    # it is symmetric
    factors = splu(
        system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    solution = factors.solve(known)
    pixels[:, missing] = solution.reshape(len(missing), -1).T
    return torch.from_numpy(pixels.reshape(image.shape)).to(image)
