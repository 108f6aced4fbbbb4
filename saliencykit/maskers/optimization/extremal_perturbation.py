"""ExtremalPerturbation: of all smooth masks of a given area, the one with the strongest label."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal, final

import torch
from torch import Generator, Tensor

from saliencykit.alternatives.blur import gaussian_blur
from saliencykit.alternatives.blur_pyramid import BlurPyramid, between
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.map_placement import resize_maps
from saliencykit.core.masker import Masker
from saliencykit.core.masker_output import MaskerOutput
from saliencykit.core.output import Meaning, RelativeScores, as_logits
from saliencykit.core.query_batches import relative_output
from saliencykit.core.types import Images, Labels, Mask, PerImage
from saliencykit.maskers.optimization.image_batches import (
    default_batch_size,
    grid_gradient,
    optimize_in_batches,
)
from saliencykit.maskers.optimization.smooth_mask import SmoothMask

Variant = Literal["preserve", "delete", "dual"]

_BLURS = BlurPyramid()
# Weight of the area penalty at the first and the last step. On 4 photos with 60 steps the mean kept
# at areas 0.05, 0.1, 0.2 is 0.33; 0.27 with 30 to 3000 and a step of 32; 0.30 with 300 to 5000, 8.
_FIRST_PENALTY, _LAST_PENALTY = 100.0, 5000.0
# the sum of all steps' learning rates, so that fewer steps are longer; 150 steps keep 0.35
_TOTAL_LR = 16.0
# How far a score rises from the replaced to the whole image, in the units of a logit: the area
# penalty drowns the 4 of relative scores. On planted evidence (6 images, 50 steps) the IoU at 4, 8,
# 16, 32 is .06, .50, .98, 1.00 for a linear score, and at 16, 32, 64 .79, .96, .98 for a
# similarity; for softmax it is 1.00.
_SCORE_SPAN = 32.0
_MOMENTUM = 0.9


@final
@dataclass(frozen=True, kw_only=True)
class ExtremalPerturbation(Masker):
    """The mask of each given area that shows the label most strongly, among smooth masks.

    `M_a = argmax over smooth M of z_c(M * X) - weight * R_a(M)`, where
    `R_a(M) = mean((sorted(M) - r_a)**2)` compares the sorted values of the mask with a vector that
    is 0 in its first `1 - a` and 1 after: the mask has to be binary and to have the area a. z_c is
    the label's logit, `M * X` blurs each pixel by as much as the mask removes (`BlurPyramid`), and
    M is the dilation of a small grid by a soft disc (`SmoothMask`). The weight of the penalty grows
    from step to step, so the mask first finds its place and then its area.

    The areas of an image are optimized together. The mask is the mean over areas: 1 where all of
    them keep, small where only the largest does. The attributions are the mask, smoothed, so that
    the maximum lies inside and not anywhere on a plateau, as published for the pointing game. For
    the mask of one area use `areas=(0.1,)`; `per_area` returns all of them.

    Good: it says how much of an image is enough, with areas that can be compared between images and
    methods. Bad: cost, one query with gradients per step and area, two with `dual`; a mask depends
    on the fill it was optimized under.

    Args:
        areas: Fractions of the image, each in (0, 1), at least one; a single number is one area.
        steps: Steps of gradient descent with momentum, >= 1; 800 published.
        variant: `preserve` keeps the mask's pixels and makes the label strong; `delete` removes
            them and makes it weak; `dual` maximizes the difference of both.
        grid_size: Grid points along the shorter side of the image, >= 1.
        width: Diameter of the disc as a fraction of the shorter side, > 0; the published 21 px of
            224.
        alternative: The blurs that replace pixels where the mask is below 1.
        smoothing: Standard deviation of the Gaussian that smooths the attributions, as a fraction
            of the shorter side, in [0, 1).
        batch_size: Images to optimize at once, >= 1. A float32 network rounds differently in
            batches of different sizes, and optimization amplifies that, so a mask is exactly the
            same alone and in a batch only for 1. None: 1 on a CPU, where larger batches are not
            faster; else what fits in the `max_batch_size` of the black box.

    Raises:
        InputError: An argument is out of range.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> masker = ExtremalPerturbation(areas=(0.1, 0.3), steps=3)
        >>> masker(black_box, images, labels, generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Fong, Patrick & Vedaldi 2019, "Understanding Deep Networks via Extremal Perturbations and
        Smooth Masks", section 3, the area constraint in equations 4 and 5; sum and smoothing of
        several areas: section 4, the pointing game.
    """

    areas: tuple[float, ...] | float = (0.05, 0.1, 0.2, 0.4)
    steps: Annotated[int, "[1, inf)"] = 100
    variant: Variant = "preserve"
    grid_size: Annotated[int, "[1, inf)"] = 32
    width: Annotated[float, "(0, inf)"] = 21 / 224
    alternative: BlurPyramid = _BLURS
    smoothing: Annotated[float, "[0, 1)"] = 0.09
    batch_size: Annotated[int | None, "[1, inf)"] = None

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        who, areas = "ExtremalPerturbation", self._areas
        if not isinstance(areas, tuple) or not areas or not all(0 < area < 1 for area in areas):
            raise InputError(
                f"{who}(areas={self.areas!r}): expected a tuple of fractions of the image in "
                "(0, 1), such as (0.1,)."
            )

    @property
    def _areas(self) -> tuple[float, ...]:
        return (self.areas,) if isinstance(self.areas, float) else self.areas

    def evaluations(self, black_box: BlackBox, images: Images) -> int:
        """One for each step and area."""
        return self.steps * len(self._areas)

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """The mean over areas, and the same smoothed as the attributions; deterministic."""
        mask = self.per_area(black_box, images, labels).mean(1)
        sigma = self.smoothing * min(images.shape[2:])
        return MaskerOutput(mask, gaussian_blur(mask, sigma) if sigma else mask)

    def per_area(self, black_box: BlackBox, images: Images, labels: Labels) -> Tensor:
        """The mask of each area; their means are close to the areas after enough steps.

        Args:
            black_box: Differentiable.
            images: (B, C, H, W).
            labels: (B,) int64.

        Returns:
            (B, areas, 1, H, W) in [0, 1].

        Raises:
            GradientError: No gradient of the logits reaches the mask.
            ContractError: The gradient is NaN or infinite.
        """
        black_box = black_box.optimized_for(images)
        edits = len(self._areas) * (2 if self.variant == "dual" else 1)
        batch_size = self.batch_size or default_batch_size(black_box, images, edits)
        optimize = partial(self._optimized, black_box)
        with torch.inference_mode(False), torch.enable_grad():
            masks = optimize_in_batches(
                optimize, images, labels, batch_size, "ExtremalPerturbation"
            )
        return torch.cat(masks)

    def _optimized(self, black_box: BlackBox, images: Images, labels: Labels) -> Tensor:
        # equal values are ranked from left to right, and steps alternate: optimize an image and its
        # mirror image the same way round, so that their masks mirror, too
        mirrored = _brighter_on_the_right(images)[:, None, None, None]
        images = torch.where(mirrored, images.flip(3), images)
        smooth = SmoothMask((images.shape[2], images.shape[3]), self.grid_size, self.width)
        pyramid = self.alternative.pyramid(images)
        output = relative_output(black_box, images, self.alternative, Generator().manual_seed(0))
        edits = len(self._areas)
        if isinstance(output, RelativeScores):
            output = output[torch.arange(len(images), device="cpu").repeat_interleave(edits)]
        # start from the unmasked image: the label is strong, and its gradient shows its evidence
        start = 0.0 if self.variant == "delete" else 1.0
        dtype = torch.promote_types(images.dtype, torch.float32)
        count = len(images) * len(self._areas)
        grid = images.new_full((count, 1, *smooth.shape), start, dtype=dtype)
        velocity = torch.zeros_like(grid)
        target = _sorted_masks(self._areas, smooth.num_values, grid).repeat(len(images), 1)
        for step in range(self.steps):
            grid.requires_grad_()
            small = smooth.mask(grid)
            reward = self._reward(black_box, pyramid, labels, small, output, mirrored=step % 2 == 0)
            weight = _FIRST_PENALTY * (_LAST_PENALTY / _FIRST_PENALTY) ** (step / self.steps)
            penalty = weight * area_penalty(small, target)
            gradient = grid_gradient(black_box, self.alternative, grid, -reward, penalty)
            velocity = _MOMENTUM * velocity + (1 - _MOMENTUM) * gradient
            grid = (grid.detach() - _TOTAL_LR / self.steps * velocity).clamp_(0, 1)
        with torch.no_grad():
            masks = _upsampled(smooth.mask(grid), pyramid)
            masks = torch.where(mirrored[..., None], masks.flip(4), masks)
        return masks.clamp(0, 1).to(images.dtype)

    def _reward(
        self,
        black_box: BlackBox,
        pyramid: Tensor,
        labels: Labels,
        small: Mask,
        output: Meaning,
        *,
        mirrored: bool,
    ) -> PerImage:
        """The label's logit under each mask, its negative, or the difference, (images * areas,)."""
        masks = _upsampled(small, pyramid)
        sides = {"preserve": (masks,), "delete": (1 - masks,), "dual": (masks, 1 - masks)}
        edits = [between(pyramid, side).flatten(0, 1) for side in sides[self.variant]]
        # every other step is mirrored: a mask that works only one way round exploits a flaw
        shown = torch.cat(edits)
        logits, _ = as_logits(black_box(shown.flip(3) if mirrored else shown), output)
        if isinstance(output, RelativeScores):
            logits = _SCORE_SPAN / 4 * logits
        classes = labels.repeat_interleave(len(self._areas)).repeat(len(edits))
        strength = logits.gather(1, classes[:, None]).view(len(edits), -1)
        if self.variant == "dual":
            return strength[0] - strength[1]
        return strength[0] * (-1 if self.variant == "delete" else 1)


def _brighter_on_the_right(images: Images) -> Tensor:
    """Which images are, (B,) bool: of an image and its mirror image, at most one."""
    columns = images.double().sum((1, 2))
    return (columns - columns.flip(1)).cumsum(1).sign().sum(1) < 0


def area_penalty(masks: Mask, target: Tensor) -> PerImage:
    """`R_a`: mean squared difference between the sorted values of each mask and the target.

    Args:
        masks: (n, 1, h, w).
        target: (n, h * w), in ascending order.
    """
    return (masks.flatten(1).sort(1).values - target).square().mean(1)


def _sorted_masks(areas: tuple[float, ...], count: int, like: Tensor) -> Tensor:
    """`r_a` of each area: the sorted values of a binary mask of that area, (areas, count)."""
    rank = torch.arange(count, device=like.device)
    return torch.stack([(rank >= round((1 - area) * count)).to(like.dtype) for area in areas])


def _upsampled(small: Mask, pyramid: Tensor) -> Tensor:
    """The masks at the size of the image, (images, areas, 1, H, W)."""
    masks = resize_maps(small, pyramid.shape[3:])
    return masks.view(len(pyramid), -1, *masks.shape[1:])
