"""ExtremalPerturbation: of all smooth masks of a given area the one under which the label is
strongest.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, final, get_args

import torch
from torch import Generator, Tensor

from saliencykit.alternatives.blur import gaussian_blur
from saliencykit.alternatives.blur_pyramid import BlurPyramid, between
from saliencykit.core import checks
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import ContractError, GradientError, InputError
from saliencykit.core.masker import Masker, MaskerOutput, resize_maps
from saliencykit.core.types import Images, Labels, Mask, PerImage
from saliencykit.maskers.normalize import NONFINITE_HINT
from saliencykit.maskers.optimization.smooth_mask import SmoothMask

Variant = Literal["preserve", "delete", "dual"]

_BLURS = BlurPyramid()
# Tried on 4 photos, 60 steps, mean kept at areas 0.05, 0.1, 0.2: these 0.33; 30 to 3000 with 32,
# 0.27; 300 to 5000 with 8, 0.30.
_FIRST, _LAST = 100.0, 5000.0  # the price of a wrong area at the first and at the last step
# the rates of all steps together, so that fewer steps are longer ones; 150 steps keep 0.35
_PATH = 16.0
_MOMENTUM = 0.9
_ROWS = 16  # edits at once where the box names no micro-batch


@final
@dataclass(frozen=True, kw_only=True)
class ExtremalPerturbation(Masker):
    """The mask of each given area that shows the label most strongly, among masks that cannot be
    rough.

    `M_a = argmax over smooth M of z_c(M * X) - price * R_a(M)`, where `R_a(M) = mean((sorted(M) -
    r_a)**2)` compares the mask's sorted values with a vector that is 0 in its first `1 - a` and 1
    in the rest: the mask has to be binary and to have the area a. z_c is the label's logit, `M * X`
    blurs each pixel by as much as the mask takes away (`BlurPyramid`), and M is the dilation of a
    grid of cells by a soft disc (`SmoothMask`). The price grows from step to step, so the mask
    first finds its place and then its area.

    The areas of a picture are optimised side by side. The mask is the mean of theirs: 1 where all
    areas keep, small where only the largest does. The scores are the same, smoothed, so that the
    highest lies inside and not somewhere on a plateau, as published for the pointing game. The mask
    of one area is that of `areas=(0.1,)`, and `per_area` gives all of them.

    Good at: saying how much of a picture is enough, with areas that can be compared between
    pictures and methods. Bad at: time, one evaluation with gradient per step and area, two with
    `dual`; a mask answers for the fill it was optimised under.

    Args:
        areas: Shares of the picture, each in (0, 1), at least one; a single number is one area.
        steps: Of gradient descent with momentum, >= 1; 800 published.
        variant: `preserve` keeps the mask's pixels and makes the label strong; `delete` removes
            them and makes it weak; `dual` does both, and takes the difference.
        grid_size: Of the grid along the picture's shorter side, >= 1.
        width: Of the disc as a share of the shorter side, > 0; the published 21 px of 224.
        alternative: The blurs that stand where the mask is below 1.
        smoothing: Standard deviation of the Gaussian that the scores are smoothed with, as a share of
            the shorter side, >= 0.
        batch_size: How many pictures are optimised at once, >= 1. A float32 network rounds
            differently in batches of different sizes, and optimising makes much of little, so a
            mask is the same on its own and in a batch only if this is 1. None: 1 on a CPU, where
            larger batches are no faster; elsewhere as many as the box's micro-batch has room for.

    Raises:
        InputError: A number or word is not one of those above.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> ExtremalPerturbation(areas=(0.1, 0.3), steps=3)(black_box, images, labels, generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Fong, Patrick & Vedaldi 2019, "Understanding Deep Networks via Extremal Perturbations and
        Smooth Masks", section 3, the area constraint in equations 4 and 5; sum and smoothing of
        several areas: section 4, the pointing game.
    """

    areas: tuple[float, ...] | float = (0.05, 0.1, 0.2, 0.4)
    steps: int = 100
    variant: Variant = "preserve"
    grid_size: int = 32
    width: float = 21 / 224
    alternative: BlurPyramid = _BLURS
    smoothing: float = 0.09
    batch_size: int | None = None

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        who = "ExtremalPerturbation"
        if (
            not isinstance(self._shares, tuple)
            or not self._shares
            or not all(0 < area < 1 for area in self._shares)
        ):
            raise InputError(
                f"{who}(areas={self.areas!r}) takes a tuple of shares of the picture in (0, 1), "
                "such as (0.1,)."
            )
        if self.variant not in get_args(Variant):
            raise InputError(
                f"{who}(variant={self.variant!r}): it is one of {', '.join(get_args(Variant))}."
            )
        checks.whole_numbers(
            self, "steps", "grid_size", *([] if self.batch_size is None else ["batch_size"])
        )
        if not 0 < self.width < float("inf") or not 0 <= self.smoothing < 1:
            raise InputError(
                f"{who}(width={self.width}, smoothing={self.smoothing}): width is > 0, smoothing is in [0, "
                "1)."
            )
        if not isinstance(self.alternative, BlurPyramid):
            raise InputError(
                f"{who}(alternative={self.alternative!r}) takes a BlurPyramid(levels=..., "
                "sigma=...); masks under another alternative are found by masker='iterative'."
            )

    @property
    def _shares(self) -> tuple[float, ...]:
        return (self.areas,) if isinstance(self.areas, float) else self.areas

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """The mean of the areas' masks, and the same smoothed as the scores; nothing is drawn."""
        mask = self.per_area(black_box, images, labels).mean(1)
        widest = self.smoothing * min(images.shape[2:])
        return MaskerOutput(mask, gaussian_blur(mask, widest) if widest else mask)

    def per_area(self, black_box: BlackBox, images: Images, labels: Labels) -> Tensor:
        """The mask of each area; the means are the areas only as nearly as the steps brought them.

        Args:
            black_box: Differentiable.
            images: (B, C, H, W).
            labels: (B,) int64.

        Returns:
            (B, areas, 1, H, W) in [0, 1].

        Raises:
            GradientError: No gradient of the box reaches the mask.
            ContractError: The gradient is NaN or infinite.
        """
        black_box = black_box.optimized_for(images)
        edits = len(self._shares) * (2 if self.variant == "dual" else 1)
        alone = (
            1 if images.device.type == "cpu" else max(1, (black_box.max_batch_size or _ROWS) // edits)
        )
        step = self.batch_size or alone
        with torch.inference_mode(False), torch.enable_grad():
            return torch.cat(
                [
                    self._optimize(black_box, images[i : i + step], labels[i : i + step], i)
                    for i in range(0, len(images), step)
                ]
            )

    def _optimize(self, black_box: BlackBox, images: Images, labels: Labels, first: int) -> Tensor:
        shape = SmoothMask((images.shape[2], images.shape[3]), self.grid_size, self.width)
        pyramid = self.alternative.pyramid(images)
        kind = torch.promote_types(images.dtype, torch.float32)
        # the first edit is the picture itself: the label is strong, and its gradient says what it
        # lives on
        start = 0.0 if self.variant == "delete" else 1.0
        cells = images.new_full(
            (len(images) * len(self._shares), 1, *shape.grid), start, dtype=kind
        )
        velocity = torch.zeros_like(cells)
        wanted = _sorted_masks(self._shares, shape.count, cells).repeat(len(images), 1)
        for step in range(self.steps):
            cells.requires_grad_()
            small = shape.mask(cells)
            reward = self._reward(black_box, pyramid, labels, small, mirrored=step % 2 == 0)
            price = _FIRST * (_LAST / _FIRST) ** (step / self.steps)
            if not reward.requires_grad:
                raise GradientError(
                    f"{checks.name_of(black_box)} is differentiable, and no gradient reached the mask; "
                    "use masker='rise' or 'occlusion'."
                )
            (slope,) = torch.autograd.grad(
                (price * area_penalty(small, wanted) - reward).sum(), cells
            )
            if bad := checks.finite_rows(slope):
                row = first + bad[0] // len(self._shares)
                raise ContractError(
                    f"ExtremalPerturbation stopped at image row {row}: the gradient is NaN or "
                    f"infinite; {NONFINITE_HINT}"
                )
            velocity = _MOMENTUM * velocity + (1 - _MOMENTUM) * slope
            cells = (cells.detach() - _PATH / self.steps * velocity).clamp_(0, 1)
        with torch.no_grad():
            masks = _enlarged(shape.mask(cells), pyramid)
        return masks.clamp(0, 1).to(images.dtype)

    def _reward(
        self, black_box: BlackBox, pyramid: Tensor, labels: Labels, small: Mask, *, mirrored: bool
    ) -> PerImage:
        """What each mask achieves, (pictures * areas,): the label's logit, its negative, or the
        difference of both.
        """
        masks = _enlarged(small, pyramid)
        sides = {"preserve": (masks,), "delete": (1 - masks,), "dual": (masks, 1 - masks)}[
            self.variant
        ]
        edits = torch.cat([between(pyramid, side).flatten(0, 1) for side in sides])
        # every other step in a mirror: a mask that only works one way round has found a flaw and
        # not the evidence
        logits = black_box(edits.flip(3) if mirrored else edits)
        asked = labels.repeat_interleave(len(self._shares)).repeat(len(sides))
        strength = logits.gather(1, asked[:, None]).view(len(sides), -1)
        return (
            strength[0] - strength[1]
            if self.variant == "dual"
            else strength[0] * (-1 if self.variant == "delete" else 1)
        )


def area_penalty(masks: Mask, wanted: Tensor) -> PerImage:
    """`R_a`: the mean squared difference between each mask's sorted values and `wanted`, (n,
    values), which is sorted.
    """
    return (masks.flatten(1).sort(1).values - wanted).square().mean(1)


def _sorted_masks(areas: tuple[float, ...], count: int, like: Tensor) -> Tensor:
    """`r_a` of each area: the values of a binary mask of that area in order, (areas, count)."""
    rank = torch.arange(count, device=like.device)
    return torch.stack([(rank >= round((1 - area) * count)).to(like.dtype) for area in areas])


def _enlarged(small: Mask, pyramid: Tensor) -> Tensor:
    """The masks at the picture's size, (pictures, areas, 1, H, W)."""
    masks = resize_maps(small, pyramid.shape[3:])
    return masks.view(len(pyramid), -1, *masks.shape[1:])
