"""Schedule: every number that decides how a training runs, and the record of one step."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias, cast, final

from saliencykit.core import checks
from saliencykit.core.alternative import Alternative
from saliencykit.core.annotated_fields import check_fields
from saliencykit.core.objective import Objective
from saliencykit.maskers.realtime.masking_network import MaskingNetwork

Phase: TypeAlias = Literal["warmup", "feature-mixing", "distillation", "pixels"]

# With 169 steps a class that is absent still got a sixth of the area of a class that is present.
_FEWEST = 400
_MOST = 600
_VALIDATIONS = 8  # per training
_WARMUP = 150


@final
@dataclass(frozen=True)
class Schedule:
    """The phases of a training, in order, and its hyperparameters.

    Attributes:
        objective: What is minimized.
        alternative: What replaces pixels.
        warmup_steps: Steps of phase 1: only the selector learns which classes are present. Needed
            where its filters are not the classifier's own.
        mixing_steps: Steps of phase 2 that mix cached features.
        distill_steps: Steps of distillation, after those: the decoder learns the masks of a cheap
            teacher and its own.
        pixel_steps: Steps of phase 2 that compose pixels, at the end.
        batch_size: Images per step, fakes not counted.
        lr: Peak learning rate of Adam. Pixel steps after others start at a quarter of it.
        fake_class_rate: Fraction of the rows whose selected class is absent, in [0, 1).
        area: Target mean area of the masks in (0, 1), or None: the objective's weight decides.
        views_per_image: Views of each image.
        validate_every: Steps between validations on the held-out images.
        patience: Validations in a row that are clearly worse than the best before it stops early.
        save_every: Steps between checkpoints.
        seed: Random seed.
        mixed_precision: `no` or `bf16`, as accelerate takes it.

    Raises:
        InputError: A value is out of range.
    """

    objective: Objective
    alternative: Alternative
    warmup_steps: Annotated[int, "[0, inf)"] = 0
    mixing_steps: Annotated[int, "[0, inf)"] = 0
    distill_steps: Annotated[int, "[0, inf)"] = 0
    pixel_steps: Annotated[int, "[0, inf)"] = 0
    batch_size: Annotated[int, "[2, inf)"] = 16  # of one image a batch norm has no spread
    lr: Annotated[float, "(0, 1)"] = 3e-3
    fake_class_rate: Annotated[float, "[0, 1)"] = 0.3
    area: Annotated[float | None, "(0, 1)"] = None
    views_per_image: Annotated[int, "[1, inf)"] = 2
    validate_every: Annotated[int, "[1, inf)"] = 100
    patience: Annotated[int, "[1, inf)"] = 4
    save_every: Annotated[int, "[1, inf)"] = 50
    seed: int = 0
    mixed_precision: Literal["no", "bf16"] = "no"

    def __post_init__(self) -> None:
        """Check the values."""
        check_fields(self)
        checks.counts("Schedule", steps=self.steps)

    @property
    def steps(self) -> int:
        """The total number of steps."""
        return self.warmup_steps + self.mixing_steps + self.distill_steps + self.pixel_steps

    def phase(self, step: int) -> tuple[Phase, int, int]:
        """The phase of step number `step`, counted from 0, with the phase's first and end step."""
        first, phases = 0, ("warmup", "feature-mixing", "distillation", "pixels")
        counts = (self.warmup_steps, self.mixing_steps, self.distill_steps, self.pixel_steps)
        for phase, count in zip(phases, counts, strict=True):
            if step < first + count:
                return cast(Phase, phase), first, first + count
            first += count
        return "pixels", self.steps - self.pixel_steps, self.steps


def make_schedule(
    objective: Objective,
    alternative: Alternative,
    image_count: int,
    network: MaskingNetwork,
    mixes_features: bool,
    *,
    steps: int | None,
    pixel_steps: int | None,
    warmup_steps: int | None,
    distill_steps: int | None,
    **options: Any,
) -> Schedule:
    """A schedule for a number of images: three epochs, the last fifth on composed pixels.

    Args:
        objective: What is minimized.
        alternative: What replaces pixels.
        image_count: Training images.
        network: Where its selector has the classifier's own filters, there is no phase 1.
        mixes_features: Can the classifier be split, so that most steps mix features?
        steps: Steps of phase 2. None: three epochs of every view, 400 to 600.
        pixel_steps: How many of them compose pixels. None: a fifth; without `mixes_features`, all.
        warmup_steps: Steps of phase 1. None: 150, at most twice `steps`.
        distill_steps: Steps of distillation. None: twice `steps`, where features are cached and
            outputs are classes or labels.
        options: Further fields of `Schedule`.

    Raises:
        InputError: A value is out of range.
    """
    if warmup_steps is None:
        warmup_steps = _WARMUP if steps is None else min(_WARMUP, 2 * steps)
    if steps is None:
        epochs = 3 * image_count * options["views_per_image"] // max(1, options["batch_size"])
        steps = min(_MOST, max(_FEWEST, epochs))
    composed = min(steps, steps // 5 if pixel_steps is None else pixel_steps)
    mixing_steps = steps - composed if mixes_features else 0
    if distill_steps is None:
        distill_steps = 2 * steps
    return Schedule(
        objective,
        alternative,
        warmup_steps=warmup_steps if network.selector.trained else 0,
        mixing_steps=mixing_steps,
        distill_steps=distill_steps,
        pixel_steps=steps - mixing_steps,
        validate_every=max(25, steps // _VALIDATIONS),
        **options,
    )


@final
@dataclass(frozen=True)
class FitStep:
    """What happened in one step of training.

    Attributes:
        number: From 1.
        phase: `warmup`, `feature-mixing`, `distillation` or `pixels`.
        loss: Mean total loss; NaN if the step was skipped.
        of: The total number of steps.
        parts: Mean of each weighted term.
        area: Mean mask for present classes.
        fake_area: Mean mask for absent classes; NaN without any.
        kept: Mean probability of the label with the mask kept.
        dropped: Mean probability with the mask replaced.
        area_weight: Weight of the area term at this step.
        seconds: Since this run of the training began.
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
