"""Plan: everything that decides how a training goes, and what is said of each of its steps."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, final

from saliencykit.core.alternative import Alternative
from saliencykit.core.errors import InputError
from saliencykit.core.objective import Objective

Phase: TypeAlias = Literal["warm-up", "mixing", "composing"]


@final
@dataclass(frozen=True)
class Schedule:
    """How long, with what, and in which order.

    Attributes:
        warmup_steps: Steps of phase 1: the selector alone learns which classes are there (only where its
            rows are not the head's own).
        mixing: Steps of phase 2 with late mixing.
        composing: Steps of phase 2 with composed pictures, after those.
        batch_size: Pictures a step, fakes not counted.
        lr: Largest learning rate of Adam; composed steps after mixed ones begin at a quarter of it.
        fake_class_rate: Share of the rows that are asked for a class that is not there.
        area: The wanted mean area of the masks, or None: the objective's weight decides.
        objective: What is minimised.
        alternative: What replaces pixels.
        views_per_image: Views of each picture.
        gate_every: Steps between looks at the held-out pictures.
        patience: Looks in a row with a clearly worse score than the best until it stops.
        save_every: Steps between checkpoints.
        seed: Of everything.
        mixed_precision: `no` or `bf16`, as accelerate takes it.

    Raises:
        InputError: A number or word is out of range.
    """

    objective: Objective
    alternative: Alternative
    warmup_steps: int = 0
    mixing: int = 0
    composing: int = 0
    batch_size: int = 16
    lr: float = 3e-3
    fake_class_rate: float = 0.3
    area: float | None = None
    views_per_image: int = 2
    gate_every: int = 100
    patience: int = 4
    save_every: int = 50
    seed: int = 0
    mixed_precision: str = "no"

    def __post_init__(self) -> None:
        """Check the numbers."""
        if min(self.warmup_steps, self.mixing, self.composing) < 0 or self.steps < 1:
            raise InputError(
                f"fit: steps are >= 1 in all; got {self.warmup_steps} + {self.mixing} + "
                f"{self.composing}."
            )
        if self.batch_size < 2:
            raise InputError(f"fit(batch_size={self.batch_size}): batch norms need at least 2 pictures.")
        if not 0 <= self.fake_class_rate < 1:
            raise InputError(f"fit(fake_class_rate={self.fake_class_rate}): a share in [0, 1).")
        if self.area is not None and not 0 < self.area < 1:
            raise InputError(f"fit(area={self.area}): the wanted mean area is in (0, 1).")
        if not 0 < self.lr < 1:
            raise InputError(f"fit(lr={self.lr}): a learning rate in (0, 1).")
        if self.mixed_precision not in ("no", "bf16"):
            raise InputError(f"fit(mixed_precision={self.mixed_precision!r}): 'no' or 'bf16'.")
        if min(self.views_per_image, self.gate_every, self.patience, self.save_every) < 1:
            came = (
                f"{self.views_per_image}, {self.gate_every}, {self.patience} and {self.save_every}"
            )
            raise InputError(
                f"fit: views_per_image, gate_every, patience and save_every are >= 1; got {came}."
            )

    @property
    def steps(self) -> int:
        """All steps."""
        return self.warmup_steps + self.mixing + self.composing

    def phase(self, step: int) -> Phase:
        """What step number `step`, from 0, does."""
        return (
            "warm-up"
            if step < self.warmup_steps
            else "mixing"
            if step < self.warmup_steps + self.mixing
            else "composing"
        )


@final
@dataclass(frozen=True)
class FitStep:
    """What happened in one step of training.

    Attributes:
        number: From 1.
        of: All steps of the plan.
        phase: `warm-up`, `mixing` or `composing`.
        loss: The mean total.
        parts: The mean of each weighted term.
        area: Mean mask for the real classes.
        fake_area: Mean mask for the fakes; NaN without.
        kept: Mean probability of the label with the mask kept.
        dropped: Mean probability with the mask replaced.
        area_weight: What the area is weighted with at this step.
        seconds: Since the training began, of this run.
    """

    number: int
    phase: Phase
    loss: float
    of: int = 0
    parts: dict[str, float] = field(default_factory=dict)
    area: float = float("nan")
    fake_area: float = float("nan")
    kept: float = float("nan")
    dropped: float = float("nan")
    area_weight: float = float("nan")
    seconds: float = 0.0
