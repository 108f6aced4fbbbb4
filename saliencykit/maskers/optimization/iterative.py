"""Iterative: a mask optimized for one image, by gradient descent on masked queries."""

from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.choice import Choice
from saliencykit.alternatives.noise import Noise
from saliencykit.core import rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.masker_output import MaskerOutput
from saliencykit.core.objective import Objective, Trial, run_trial
from saliencykit.core.query_batches import relative_output
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.maskers.cam.cam import Cam
from saliencykit.maskers.optimization.image_batches import (
    default_batch_size,
    grid_gradient,
    optimize_in_batches,
)
from saliencykit.maskers.optimization.mask_choice import Batch, MaskChoice
from saliencykit.maskers.optimization.mask_parametrization import (
    NestedMasks,
    Parametrization,
    SigmoidMask,
    low_discrepancy,
)
from saliencykit.terms.presets import keep_and_drop

_FILLS = Choice(
    alternatives=(Blur(sigma=0.07), Noise(), Blur(sigma=0.1), Noise(spread=0.5, std=0.1))
)
_START = 3.0  # standard deviation of the grid at the start: as far as thirty steps go
_SHIFTS = (0.7548776662466927, 0.5698402909980532)  # powers of 1 / 1.3247, for two dimensions
_MOMENTUM = 0.9  # of the running mean of the grid, which is the result: about the last ten steps


@final
@dataclass(frozen=True, kw_only=True)
class Iterative(Masker):
    """A mask optimized for one image, by gradient descent on queries with masked images.

    By default it optimizes a ranking of the pixels instead of one mask: each step takes an area and
    a fill, keeps the best pixels up to that area in one edit and removes them in another, and moves
    the ranking so that the first shows the label more and the second less. It starts from the class
    activation map where the model has one. Areas, shifts and fills are evenly spaced instead of
    drawn, so another seed gives nearly the same mask.

    The result is a nested mask for whose area `kept - dropped - area` is large, with at least half
    of the label kept and half removed, under a blur that no gradient was taken with (`MaskChoice`).
    Where no area of the range does that, the descent starts again from a blank ranking, and then
    larger areas are tried. The ranking itself is in the attributions.

    Good: any differentiable model, any class, no training. Bad: cost, two queries with gradients
    per step and image, twice as many where it starts again; outlines, because the grid is coarse on
    purpose. Optimizing many free values against one fill finds adversarial static: gray noise with
    perfect scores under that fill and none under another. A coarse grid, many areas, and an
    optimizer that sums up what trials agree on prevent it here.

    Args:
        objective: What is minimized. One that penalizes area (`paper-mean`, `authors`) gets a free
            mask, one that does not gets nested masks of the given areas.
        steps: Maximum number of steps, >= 1, of two queries per fill.
        grid_size: Values per side of the mask, >= 1; at most the pixels of the image.
        lr: Length of a step, > 0: in the free mask's logits, or root mean square over the grid of
            the ranking.
        areas: Smallest and largest area of the nested masks, 0 < a <= b < 1; a mask is larger where
            none of these is confirmed, unless both are the same. Not used by a free mask.
        edge_width: Width of a nested mask's edge in standard deviations of the ranking, > 0.
        alternative: What replaces pixels outside the mask. The fills of a `Choice` take turns.
        fills_per_step: Trials per step, each with its own fills, >= 1.
        jitter: Maximum shift of the masked image as a fraction of its sides, in [0, 0.5); edges are
            replicated.
        tolerance: An image is finished when its mask changed by less than this (mean absolute
            difference) in `patience` steps. 0: always run all steps.
        patience: See `tolerance`, >= 1.
        start: The masker whose map the ranking starts from, blank where it does not work with the
            model. With a good one, such as `Universal()`, ten steps do.
        batch_size: Images to optimize at once, >= 1. A float32 network rounds differently in
            batches of different sizes, and optimization amplifies that, so a mask is exactly the
            same alone and in a batch only for 1. None: 1 on a CPU, where larger batches are not
            faster; else what fits in the `max_batch_size` of the black box.

    Raises:
        InputError: A number is out of range.
        GradientError: No gradient of the objective reached the mask.
        ContractError: The gradient is NaN or infinite; the message names the image.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> Iterative(steps=3)(black_box, images, labels, generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Dabkowski & Gal 2017, section 3, the iterative form. Fixed areas instead of a penalty: Fong,
        Patrick & Vedaldi 2019, "Understanding Deep Networks via Extremal Perturbations", section 3.
        Keeping and removing over all areas are the insertion and deletion curves of Petsiuk et al.
        2018.
    """

    objective: Objective = field(default_factory=keep_and_drop)
    steps: Annotated[int, "[1, inf)"] = 50
    grid_size: Annotated[int, "[1, inf)"] = 7
    lr: Annotated[float, "(0, inf)"] = 0.1
    areas: tuple[float, float] = (0.05, 0.5)
    edge_width: Annotated[float, "(0, inf)"] = 0.3
    alternative: Alternative = _FILLS
    fills_per_step: Annotated[int, "[1, inf)"] = 1
    jitter: Annotated[float, "[0, 0.5)"] = 0.07
    tolerance: Annotated[float, "[0, 1)"] = 0.01
    patience: Annotated[int, "[1, inf)"] = 10
    start: Masker = field(default_factory=Cam)
    batch_size: Annotated[int | None, "[1, inf)"] = None

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        if not isinstance(self.objective, Objective):
            raise InputError(
                f"Iterative(objective={self.objective!r}): expected an Objective, such as "
                "saliencykit.terms.presets.paper_mean(); a name works in a text: "
                "masker='iterative:objective=paper-mean'."
            )
        if len(self.areas) != 2 or not 0 < self.areas[0] <= self.areas[1] < 1:
            raise InputError(
                f"Iterative(areas={self.areas}): expected the smallest and the largest area, 0 < a "
                "<= b < 1."
            )

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """The mask of each image; with nested masks the ranking is in the attributions."""
        seed, black_box = rng.seed(generator), black_box.optimized_for(images)
        masks: Parametrization = NestedMasks(self.areas, self.edge_width)
        if _penalizes_area(self.objective):
            masks = SigmoidMask()

        def optimized(some: Images, classes: Labels) -> MaskerOutput:
            own = Generator().manual_seed(seed)
            output = relative_output(black_box, some, self.alternative, own)
            return self._optimized(Batch(black_box, some, classes, output), masks, seed)

        # the graphs of both edits of a batch are in memory at once
        batch_size = self.batch_size or default_batch_size(black_box, images, edits=2)
        outputs = optimize_in_batches(optimized, images, labels, batch_size, "Iterative")
        rankings = [each.attributions for each in outputs if each.attributions is not None]
        mask = torch.cat([each.mask for each in outputs])
        return MaskerOutput(mask, torch.cat(rankings) if rankings else None)

    def _optimized(self, batch: Batch, masks: Parametrization, seed: int) -> MaskerOutput:
        generator, dtype = Generator().manual_seed(seed), batch.images.dtype
        again = rng.fork(generator)  # drawn now: the number of steps depends on the other images
        shape = (len(batch.images), 1, *(min(self.grid_size, side) for side in batch.size))
        blank = batch.images.new_zeros(shape, dtype=torch.promote_types(dtype, torch.float32))
        if not isinstance(masks, NestedMasks):
            grid = self._descended(batch, masks, blank, generator)
            return MaskerOutput(masks.mask(grid, batch.size, 0.5).to(dtype))
        start = _START * evidence_grid(self.start, batch, blank)
        grid = self._descended(batch, masks, start, generator)
        choice = MaskChoice.of(batch, masks, grid)
        failed = (~choice.confirmed).nonzero().flatten()
        if len(failed):
            some = batch.rows(failed)
            grid = self._descended(some, masks, blank[failed], again, first=self.steps)
            choice = choice.or_better(failed, MaskChoice.of(some, masks, grid))
            choice = choice.or_larger(batch, masks)
        scores = masks.scores(choice.grid, batch.size).to(dtype)
        return MaskerOutput(choice.mask(batch, masks), scores)

    def _descended(
        self,
        batch: Batch,
        masks: Parametrization,
        grid: Tensor,
        generator: Generator,
        first: int = 0,
    ) -> Tensor:
        """The grid after the descent: the mean over its last steps, until the mask has converged.

        Args:
            batch: The images.
            masks: From grids to masks.
            grid: Where to start.
            generator: For the fills.
            first: The number of the first step, which determines its area, shift and fill.
        """
        result, before = grid.clone(), masks.mask(grid, batch.size, 0.5)
        mean, moments = torch.zeros_like(grid), (torch.zeros_like(grid), torch.zeros_like(grid))
        active = torch.arange(len(grid), device=grid.device)
        for step in range(self.steps):
            gradient = self._gradient(batch.rows(active), masks, grid, first + step, generator)
            grid = masks.step(grid, gradient, moments, step, self.lr)
            mean = _MOMENTUM * mean + (1 - _MOMENTUM) * grid
            result[active] = mean / (1 - _MOMENTUM ** (step + 1))
            if (step + 1) % self.patience == 0:
                after = masks.mask(result[active], batch.size, 0.5)
                moving = (after - before).abs().mean((1, 2, 3)) >= self.tolerance
                if not bool(moving.any()):
                    break
                active, grid, mean, before = (t[moving] for t in (active, grid, mean, after))
                moments = (moments[0][moving], moments[1][moving])
        return result

    def _gradient(
        self, batch: Batch, masks: Parametrization, grid: Tensor, step: int, generator: Generator
    ) -> Tensor:
        """Of the objective's sum over images and fills, with respect to the grid."""
        grid = grid.detach().requires_grad_()
        gradient = torch.zeros_like(grid)
        for index in range(step * self.fills_per_step, (step + 1) * self.fills_per_step):
            mask = masks.mask(grid, batch.size, low_discrepancy(index))
            loss = self.objective(self._trial(batch, mask, index, generator)).total
            gradient += grid_gradient(batch.black_box, self.alternative, grid, loss)
        return gradient

    def _trial(self, batch: Batch, mask: Mask, index: int, generator: Generator) -> Trial:
        """Keep and remove the masks of the shifted images; `index` counts the trials. The shifts
        cover their square evenly, and the fills of a `Choice` take turns.
        """
        images, mask, fill = batch.images, mask.to(batch.images.dtype), self.alternative
        if self.jitter:
            down, right = (
                round((2 * low_discrepancy(index, ratio) - 1) * self.jitter * side)
                for ratio, side in zip(_SHIFTS, batch.size, strict=True)
            )
            images, mask = _shifted(images, down, right), _shifted(mask, down, right)
        if isinstance(fill, Choice):
            fill = fill.alternatives[index % len(fill.alternatives)]
        run = partial(run_trial, alternative=fill, fakes=self.objective.fakes)
        given = (batch.black_box, images, batch.labels, mask)
        return run(*given, generator=generator, output=batch.output)


def _penalizes_area(objective: Objective) -> bool:
    """Does keeping everything cost more than keeping nothing, for the same logits?"""
    logits = torch.zeros(1, 2, dtype=torch.float32, device="cpu")
    empty, label = logits.new_zeros(1, 1, 4, 4), logits.new_zeros(1, dtype=torch.int64)

    def loss(mask: Mask) -> float:
        return float(objective(Trial(empty, label, label == 0, mask, logits, logits)).total)

    return loss(empty + 1) > loss(empty)


def _shifted(maps: Tensor, down: int, right: int) -> Tensor:
    """Maps (B, C, H, W) shifted by so many pixels; edges are replicated."""
    height, width = maps.shape[2:]
    rows = (torch.arange(height, device=maps.device) - down).clamp(0, height - 1)
    columns = (torch.arange(width, device=maps.device) - right).clamp(0, width - 1)
    return maps[:, :, rows][:, :, :, columns]


def evidence_grid(masker: Masker, batch: Batch, blank: Tensor) -> Tensor:
    """A masker's map as a grid: mean 0, standard deviation 1; blank where it does not work with the
    model, or is flat.
    """
    given = (batch.black_box, batch.images, batch.labels, Generator().manual_seed(0))
    try:
        with torch.set_grad_enabled(masker.needs_gradient):
            answer = masker.mask(*given)
    except InputError:
        return blank
    found = answer if isinstance(answer, MaskerOutput) else MaskerOutput(answer)
    maps = (found.mask if found.attributions is None else found.attributions).detach()
    maps = F.adaptive_avg_pool2d(maps.to(blank), (blank.shape[2], blank.shape[3]))
    maps = maps - maps.mean((2, 3), keepdim=True)
    spread = maps.square().mean((2, 3), keepdim=True).sqrt()
    return maps / spread.clamp_min(torch.finfo(maps.dtype).eps)
