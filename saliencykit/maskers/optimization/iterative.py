"""Iterative: a mask optimized for one image, and Fong & Vedaldi's perturbation as a preset."""

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.choice import Choice
from saliencykit.alternatives.noise import Noise
from saliencykit.core import rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import numbers, whole_numbers
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker, MaskerOutput
from saliencykit.core.objective import Objective, Trial, run_trial
from saliencykit.core.output import Meaning, probability
from saliencykit.core.query_batches import relative_output
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.maskers.optimization.image_batches import (
    default_batch_size,
    grid_gradient,
    optimize_in_batches,
)
from saliencykit.maskers.optimization.mask_parametrization import (
    NestedMasks,
    Parametrization,
    SigmoidMask,
    low_discrepancy,
)
from saliencykit.maskers.query_engine import check_alternative
from saliencykit.terms.presets import keep_and_drop
from saliencykit.terms.presets import meaningful_perturbation as destroy_only

_FILLS = Choice(alternatives=(Blur(), Blur(sigma=0.1), Noise(), Noise(spread=0.5, std=0.1)))
_MOMENTUM = 0.9  # of the running mean of the grid, which is the result: about the last ten steps
_CANDIDATES = 8  # areas from which that of the mask is chosen


@final
@dataclass(frozen=True, kw_only=True)
class Iterative(Masker):
    """A mask optimized for one image, by gradient descent on queries with masked images.

    By default it optimizes a ranking of the pixels instead of one mask: each step draws an area and
    new fills, keeps the best pixels up to that area in one edit and removes them in another, and
    moves the ranking so that the first shows the label more and the second less. The result is the
    nested mask of the area for which `kept - dropped - area` is largest, with both probabilities
    relative to the largest kept one; the ranking itself is in the attributions.

    Good: any differentiable model, any class, no training. Bad: cost, two queries with gradients
    per step and image; outlines, because the grid is coarse on purpose. Optimizing many free values
    against one fill finds adversarial static: gray noise with perfect scores under that fill and
    none under another. A coarse grid, random areas, and an optimizer that sums up what trials agree
    on prevent it here.

    Args:
        objective: What is minimized. One that penalizes area (`paper-mean`, `authors`) gets a free
            mask, one that does not gets nested masks of the given areas.
        steps: Maximum number of steps, >= 1, of two queries per fill.
        grid_size: Values per side of the mask, >= 1; at most the pixels of the image.
        lr: Length of a step, > 0: in the free mask's logits, or root mean square over the grid of
            the ranking.
        areas: Smallest and largest area of the nested masks, 0 < a <= b < 1. Not used by a free
            mask.
        edge_width: Width of a nested mask's edge in standard deviations of the ranking, > 0.
        alternative: What replaces pixels outside the mask; drawn for each edit.
        fills_per_step: Trials per step, each with its own fills, >= 1.
        jitter: Maximum shift of the masked image as a fraction of its sides, in [0, 0.5); edges are
            replicated.
        tolerance: An image is finished when its mask changed by less than this (mean absolute
            difference) in `patience` steps. 0: always run all steps.
        patience: See `tolerance`, >= 1.
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
    steps: int = 50
    grid_size: int = 7
    lr: float = 0.1
    areas: tuple[float, float] = (0.05, 0.5)
    edge_width: float = 0.3
    alternative: Alternative = _FILLS
    fills_per_step: int = 1
    jitter: float = 0.07
    tolerance: float = 0.01
    patience: int = 10
    batch_size: int | None = None

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        if not isinstance(self.objective, Objective):
            raise InputError(
                f"Iterative(objective={self.objective!r}): expected an Objective, such as "
                "saliencykit.terms.presets.paper_mean(); a name works in a text: "
                "masker='iterative:objective=paper-mean'."
            )
        check_alternative(self, self.alternative)
        whole_numbers(self, "steps", "grid_size", "fills_per_step", "patience", "batch_size")
        numbers(self, "(0, inf)", "lr", "edge_width")
        numbers(self, "[0, 0.5)", "jitter")
        numbers(self, "[0, 1)", "tolerance")
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
            return self._optimized(_Batch(black_box, some, classes, output), masks, seed)

        # the graphs of both edits of a batch are in memory at once
        batch_size = self.batch_size or default_batch_size(black_box, images, edits=2)
        outputs = optimize_in_batches(optimized, images, labels, batch_size, "Iterative")
        rankings = [each.attributions for each in outputs if each.attributions is not None]
        mask = torch.cat([each.mask for each in outputs])
        return MaskerOutput(mask, torch.cat(rankings) if rankings else None)

    def _optimized(self, batch: "_Batch", masks: Parametrization, seed: int) -> MaskerOutput:
        images, size = batch.images, batch.size
        generator = Generator().manual_seed(seed)
        last = rng.fork(generator)  # drawn now: the number of steps depends on the other images
        shape = (len(images), 1, *(min(self.grid_size, side) for side in size))
        grid = images.new_zeros(shape, dtype=torch.promote_types(images.dtype, torch.float32))
        mean, moments = grid.clone(), (grid.clone(), grid.clone())
        result, before = grid.clone(), masks.mask(grid, size, 0.5)
        active = torch.arange(len(images), device=images.device)
        for step in range(self.steps):
            gradient = self._gradient(batch.rows(active), masks, grid, step, generator)
            grid = masks.step(grid, gradient, moments, step, self.lr)
            mean = _MOMENTUM * mean + (1 - _MOMENTUM) * grid
            result[active] = mean / (1 - _MOMENTUM ** (step + 1))
            if (step + 1) % self.patience == 0:
                after = masks.mask(result[active], size, 0.5)
                moving = (after - before).abs().mean((1, 2, 3)) >= self.tolerance
                if not bool(moving.any()):
                    break
                active, grid, mean, before = (t[moving] for t in (active, grid, mean, after))
                moments = (moments[0][moving], moments[1][moving])
        if not isinstance(masks, NestedMasks):
            return MaskerOutput(masks.mask(result, size, 0.5).to(images.dtype))
        mask = self._best_area(batch, masks, result, last)
        return MaskerOutput(mask, masks.scores(result, size).to(images.dtype))

    def _gradient(
        self, batch: "_Batch", masks: Parametrization, grid: Tensor, step: int, generator: Generator
    ) -> Tensor:
        """Of the objective's sum over images and fills, with respect to the grid."""
        grid = grid.detach().requires_grad_()
        gradient = torch.zeros_like(grid)
        for fill in range(self.fills_per_step):
            position = low_discrepancy(step * self.fills_per_step + fill)
            trial = self._trial(batch, masks.mask(grid, batch.size, position), generator)
            loss = self.objective(trial).total
            gradient += grid_gradient(batch.black_box, self.alternative, grid, loss)
        return gradient

    def _trial(self, batch: "_Batch", mask: Mask, generator: Generator) -> Trial:
        images, mask = batch.images, mask.to(batch.images.dtype)
        if self.jitter:
            limits = images.new_tensor([self.jitter * side for side in batch.size])
            shifts = rng.uniform(images, (2,), generator=generator, low=-1.0, high=1.0) * limits
            offsets = shifts.round().long()
            images, mask = _shifted(images, offsets), _shifted(mask, offsets)
        run = partial(run_trial, alternative=self.alternative, fakes=self.objective.fakes)
        given = (batch.black_box, images, batch.labels, mask)
        return run(*given, generator=generator, output=batch.output)

    def _best_area(
        self, batch: "_Batch", masks: NestedMasks, grid: Tensor, generator: Generator
    ) -> Mask:
        """The nested mask with the largest `kept - dropped - area`."""
        candidates, kept, dropped, images = [], [], [], batch.images
        with torch.no_grad():
            for index in range(_CANDIDATES):
                candidates.append(masks.mask(grid, batch.size, index / (_CANDIDATES - 1)))
                trial = self._trial(batch, candidates[-1], generator)
                kept.append(probability(trial.preserved, batch.labels, trial.output))
                dropped.append(probability(trial.destroyed, batch.labels, trial.output))
        gain, most = torch.stack(kept) - torch.stack(dropped), torch.stack(kept).amax(0)
        area = torch.linspace(*self.areas, _CANDIDATES, dtype=images.dtype, device=images.device)
        relative = gain / most.clamp_min(torch.finfo(images.dtype).tiny)
        best = (relative - area[:, None]).argmax(0)
        rows = torch.arange(len(images), device=images.device)
        return torch.stack(candidates)[best, rows].to(images.dtype)


@final
@dataclass(frozen=True)
class _Batch:
    """Images that are optimized at once."""

    black_box: BlackBox
    images: Images
    labels: Labels
    output: Meaning

    @property
    def size(self) -> tuple[int, int]:
        return self.images.shape[2], self.images.shape[3]

    def rows(self, index: Tensor) -> "_Batch":
        output = self.output if isinstance(self.output, str) else self.output[index]
        return _Batch(self.black_box, self.images[index], self.labels[index], output)


def meaningful_perturbation(
    *, steps: int = 300, grid_size: int = 28, lr: float = 0.1, jitter: float = 4 / 224
) -> Iterative:
    """Fong & Vedaldi's meaningful perturbation: the smallest region whose blurring loses the class.

    It only removes evidence, against one fill, with a fine grid: sharp, and easily adversarial, so
    check the result under another fill. The defaults are the published settings: 300 steps of Adam
    with a learning rate of 0.1, a mask 8 times smaller than the image, jitter of 4 px of 224.

    Args:
        steps: See `Iterative`.
        grid_size: See `Iterative`.
        lr: See `Iterative`.
        jitter: See `Iterative`.

    Example:
        >>> meaningful_perturbation(steps=50).steps
        50

    References:
        Fong & Vedaldi 2017, "Interpretable Explanations of Black Boxes by Meaningful Perturbation",
        section 4, equation 4.
    """
    return Iterative(
        objective=destroy_only(),
        steps=steps,
        grid_size=grid_size,
        lr=lr,
        alternative=Blur(),
        jitter=jitter,
        tolerance=0.0,
    )


def _penalizes_area(objective: Objective) -> bool:
    """Does keeping everything cost more than keeping nothing, for the same logits?"""
    images, labels = (
        torch.zeros(1, 1, 4, 4, dtype=torch.float32, device="cpu"),
        torch.zeros(1, dtype=torch.long, device="cpu"),
    )
    logits, real = (
        torch.zeros(1, 2, dtype=torch.float32, device="cpu"),
        torch.ones(1, dtype=torch.bool, device="cpu"),
    )

    def loss(value: float) -> float:
        trial = Trial(
            images,
            labels,
            real,
            torch.full((1, 1, 4, 4), value, dtype=torch.float32, device="cpu"),
            logits,
            logits,
        )
        return float(objective(trial).total)

    return loss(1.0) > loss(0.0)


def _shifted(maps: Tensor, offsets: Tensor) -> Tensor:
    """Each row of maps (B, C, H, W) shifted down and right by its own offsets (B, 2), in pixels;
    edges are replicated.
    """
    height, width = maps.shape[2:]
    down = (torch.arange(height, device=maps.device) - offsets[:, :1]).clamp(0, height - 1)
    right = (torch.arange(width, device=maps.device) - offsets[:, 1:]).clamp(0, width - 1)
    rows = maps.gather(2, down[:, None, :, None].expand_as(maps))
    return rows.gather(3, right[:, None, None, :].expand_as(maps))
