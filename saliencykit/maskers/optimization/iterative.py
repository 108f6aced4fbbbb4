"""Iterative: the mask is optimised for one picture; and Fong & Vedaldi's perturbation as a preset
of it.
"""

from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.choice import Choice
from saliencykit.alternatives.noise import Noise
from saliencykit.core import checks, rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.class_scores import probability
from saliencykit.core.errors import ContractError, GradientError, InputError
from saliencykit.core.masker import Masker, MaskerOutput
from saliencykit.core.objective import Objective, Trial, run_trial
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.maskers.normalize import NONFINITE_HINT
from saliencykit.maskers.optimization.mask_parametrization import (
    Free,
    Nested,
    Parametrization,
    share_of,
)
from saliencykit.terms.presets import keep_and_drop
from saliencykit.terms.presets import meaningful_perturbation as destroy_only

_FILLS = Choice(alternatives=(Blur(), Blur(sigma=0.1), Noise(), Noise(spread=0.5, std=0.1)))
_ROWS = 16  # pictures that are optimised together where the box names no micro-batch
_MEMORY = 0.9  # of the running mean of the cells that is the answer: about the last ten steps
_CANDIDATES = 8  # areas among which the answer's is chosen


@final
@dataclass(frozen=True, kw_only=True)
class Iterative(Masker):
    """The mask that an optimiser finds for one picture by asking about many edits of it, with
    gradients.

    By default it optimises a ranking of the pixels rather than one mask: each step draws an area
    and fresh fills, keeps the best pixels up to that area in one edit and removes them in another,
    and moves the ranking so that the first shows the label more and the second less. The answer is
    the nested mask of the area at which `kept - dropped - area` is largest, the two probabilities
    relative to the largest kept one; the ranking itself is in the scores.

    Good at: any differentiable model, any class, no training. Bad at: time, two evaluations with
    gradient per step and picture; outlines, the cells are coarse on purpose. Optimising many free
    cells against one fill finds adversarial static: grey noise with perfect scores under that fill
    and none under another. Few cells, drawn areas and an optimiser that adds up what trials agree
    on are what keeps the default from it.

    Args:
        objective: What is minimised. One that charges for area (`paper-mean`, `authors`) gets a
            free mask, one that does not gets nested masks of the given areas.
        steps: At most so many, >= 1, of two evaluations each per fill.
        grid_size: Per side of the mask, >= 1; no more than the picture has pixels.
        lr: Length of a step, > 0: in the free mask's logits, or root mean square over the cells
            of the ranking.
        areas: Smallest and largest area of the nested masks, 0 < a <= b < 1. Not used by a free
            mask.
        edge_width: Width of a nested mask's edge in standard deviations of the ranking, > 0.
        alternative: What stands where the mask is 0; drawn anew for each edit.
        fills_per_step: Trials per step, each with fills of its own, >= 1.
        jitter: The edited picture is moved by up to this, as a share of its sides, in [0, 0.5);
            edges are replicated.
        tolerance: A picture whose mask moved by less than this (mean absolute difference) in
            `patience` steps is finished; 0: all steps are done.
        patience: See `tolerance`, >= 1.
        batch_size: How many pictures are optimised at once, >= 1. A float32 network rounds
            differently in batches of different sizes, and optimising makes much of little, so a
            mask is the same on its own and in a batch only if this is 1. None: 1 on a CPU, where
            larger batches are no faster; elsewhere as many as the box's micro-batch.

    Raises:
        InputError: A number is out of range.
        GradientError: No gradient of the objective reached the mask.
        ContractError: The gradient is NaN or infinite; the message names the image.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> Iterative(steps=3)(black_box, images, labels, generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Dabkowski & Gal 2017, section 3, the iterative form. Fixed areas instead of a price: Fong,
        Patrick & Vedaldi 2019, "Understanding Deep Networks via Extremal Perturbations", section 3.
        Kept and removed edits over all areas are the insertion and deletion curves of Petsiuk et
        al. 2018.
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
                f"Iterative(objective={self.objective!r}) takes an Objective, such as "
                "saliencykit.terms.presets.paper_mean(); a name fits in a text: "
                "masker='iterative:objective=paper-mean'."
            )
        if not isinstance(self.alternative, Alternative):
            raise InputError(
                f"Iterative(alternative={self.alternative!r}) takes an Alternative, such as Blur()."
            )
        checks.whole_numbers(
            self,
            "steps",
            "grid_size",
            "fills_per_step",
            "patience",
            *([] if self.batch_size is None else ["batch_size"]),
        )
        for name in ("lr", "edge_width"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"Iterative({name}={getattr(self, name)}): it is > 0.")
        if len(self.areas) != 2 or not 0 < self.areas[0] <= self.areas[1] < 1:
            raise InputError(
                f"Iterative(areas={self.areas}) takes the smallest and the largest area, 0 < a <= "
                "b < 1."
            )
        if not 0 <= self.jitter < 0.5 or not 0 <= self.tolerance < 1:
            raise InputError(
                f"Iterative(jitter={self.jitter}, tolerance={self.tolerance}): jitter is in [0, "
                "0.5), tolerance in [0, 1)."
            )

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """The mask of each picture; with nested masks the ranking is in the scores."""
        seed = rng.seed(generator)
        black_box = black_box.optimized_for(images)
        form = Free() if _charges_for_area(self.objective) else Nested(self.areas, self.edge_width)
        alone = (
            1 if images.device.type == "cpu" else max(1, (black_box.max_batch_size or 2 * _ROWS) // 2)
        )
        step = self.batch_size or alone  # the graph of both edits of a whole group is held at once
        found = []
        for first in range(0, len(images), step):
            group = images[first : first + step], labels[first : first + step]
            try:
                found.append(self._optimize(black_box, *group, form, seed))
            except ContractError as error:
                row = first + self._culprit(black_box, *group, form, seed)
                raise ContractError(
                    f"Iterative stopped at image row {row} of {len(images)}: {error}"
                ) from error
        scores = (
            None
            if form == Free()
            else torch.cat([f.attributions for f in found if f.attributions is not None])
        )
        return MaskerOutput(torch.cat([f.mask for f in found]), scores)

    def _optimize(
        self, black_box: BlackBox, images: Images, labels: Labels, form: Parametrization, seed: int
    ) -> MaskerOutput:
        generator = Generator().manual_seed(seed)
        last = rng.fork(generator)  # drawn now: when the loop ends depends on the other pictures
        size = (images.shape[2], images.shape[3])
        shape = (len(images), 1, min(self.grid_size, size[0]), min(self.grid_size, size[1]))
        cells = images.new_zeros(shape, dtype=torch.promote_types(images.dtype, torch.float32))
        mean, memory = cells.clone(), (cells.clone(), cells.clone())
        answer, before = cells.clone(), form.mask(cells, size, 0.5)
        active = torch.arange(len(images), device=images.device)
        for step in range(self.steps):
            gradient = self._gradient(
                black_box, images[active], labels[active], cells, form, step, generator
            )
            cells = form.step(cells, gradient, memory, step, self.lr)
            mean = _MEMORY * mean + (1 - _MEMORY) * cells
            answer[active] = mean / (1 - _MEMORY ** (step + 1))
            if (step + 1) % self.patience == 0:
                now = form.mask(answer[active], size, 0.5)
                going = (now - before).abs().mean((1, 2, 3)) >= self.tolerance
                if not bool(going.any()):
                    break
                active, cells, mean, before = active[going], cells[going], mean[going], now[going]
                memory = (memory[0][going], memory[1][going])
        if not isinstance(form, Nested):
            return MaskerOutput(form.mask(answer, size, 0.5).to(images.dtype))
        return MaskerOutput(
            self._best(black_box, images, labels, answer, form, last),
            form.scores(answer, size).to(images.dtype),
        )

    def _gradient(
        self,
        black_box: BlackBox,
        images: Images,
        labels: Labels,
        cells: Tensor,
        form: Parametrization,
        step: int,
        generator: Generator,
    ) -> Tensor:
        """Of the objective's sum over pictures and fills, with respect to the cells."""
        cells = cells.detach().requires_grad_()
        gradient = torch.zeros_like(cells)
        for fill in range(self.fills_per_step):
            mask = form.mask(
                cells,
                (images.shape[2], images.shape[3]),
                share_of(step * self.fills_per_step + fill),
            )
            trial = self._trial(black_box, images, labels, mask, generator)
            total = self.objective(trial).total.sum()
            if not total.requires_grad:
                raise GradientError(
                    f"{checks.name_of(black_box)} is differentiable, and no gradient of "
                    f"{self.alternative} reached the mask; use masker='rise' or 'occlusion', or "
                    "an alternative that is not for judging only."
                )
            gradient += torch.autograd.grad(total, cells)[0]
        if bad := checks.finite_rows(gradient):
            raise ContractError(
                f"the objective's gradient is NaN or infinite in row {bad[0]}; {NONFINITE_HINT}"
            )
        return gradient

    def _trial(
        self, black_box: BlackBox, images: Images, labels: Labels, mask: Mask, generator: Generator
    ) -> Trial:
        mask = mask.to(images.dtype)
        if self.jitter:
            reach = images.new_tensor([self.jitter * side for side in images.shape[2:]])
            offsets = (
                (rng.uniform(images, (2,), generator=generator, low=-1.0, high=1.0) * reach)
                .round()
                .long()
            )
            images, mask = _moved(images, offsets), _moved(mask, offsets)
        return run_trial(
            black_box,
            images,
            labels,
            mask,
            alternative=self.alternative,
            generator=generator,
            fakes=self.objective.fakes,
        )

    def _best(
        self,
        black_box: BlackBox,
        images: Images,
        labels: Labels,
        cells: Tensor,
        form: Nested,
        generator: Generator,
    ) -> Mask:
        """The nested mask that keeps and removes most beyond its area."""
        size = (images.shape[2], images.shape[3])
        masks, kept, dropped = [], [], []
        with torch.no_grad():
            for index in range(_CANDIDATES):
                masks.append(form.mask(cells, size, index / (_CANDIDATES - 1)))
                trial = self._trial(black_box, images, labels, masks[-1], generator)
                kept.append(probability(trial.preserved, labels))
                dropped.append(probability(trial.destroyed, labels))
        most = torch.stack(kept).amax(0).clamp_min(torch.finfo(images.dtype).tiny)
        area = torch.linspace(*self.areas, _CANDIDATES, dtype=images.dtype, device=images.device)[
            :, None
        ]
        best = ((torch.stack(kept) - torch.stack(dropped)) / most - area).argmax(0)
        return torch.stack(masks)[best, torch.arange(len(images), device=images.device)].to(
            images.dtype
        )

    def _culprit(
        self, black_box: BlackBox, images: Images, labels: Labels, form: Parametrization, seed: int
    ) -> int:
        """Which row of a failed group fails on its own; the first, if none does."""
        for row in range(len(images)):
            try:
                self._optimize(black_box, images[row : row + 1], labels[row : row + 1], form, seed)
            except ContractError:
                return row
        return 0


def meaningful_perturbation(
    *, steps: int = 300, grid_size: int = 28, lr: float = 0.1, jitter: float = 4 / 224
) -> Iterative:
    """Fong & Vedaldi's meaningful perturbation: the smallest region whose blurring loses the class.

    It destroys only, against one fill, with many cells: sharp, and easily adversarial, so look at
    what an unseen fill says. Their published settings: 300 steps of Adam at 0.1, a mask 8 times
    smaller than the picture, jitter 4 px of 224.

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


def _charges_for_area(objective: Objective) -> bool:
    """Is keeping everything dearer than keeping nothing, whatever the model says?"""
    images, labels = torch.zeros(1, 1, 4, 4), torch.zeros(1, dtype=torch.long)
    logits, real = torch.zeros(1, 2), torch.ones(1, dtype=torch.bool)

    def price(value: float) -> float:
        trial = Trial(images, labels, real, torch.full((1, 1, 4, 4), value), logits, logits)
        return float(objective(trial).total)

    return price(1.0) > price(0.0)


def _moved(maps: Tensor, offsets: Tensor) -> Tensor:
    """Each row of maps (B, C, H, W) moved by its own whole number of pixels down and right, (B, 2);
    edges are replicated.
    """
    height, width = maps.shape[2:]
    down = (torch.arange(height, device=maps.device) - offsets[:, :1]).clamp(0, height - 1)
    right = (torch.arange(width, device=maps.device) - offsets[:, 1:]).clamp(0, width - 1)
    rows = maps.gather(2, down[:, None, :, None].expand_as(maps))
    return rows.gather(3, right[:, None, None, :].expand_as(maps))
