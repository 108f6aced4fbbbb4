"""check_term: everything that the library relies on of a term."""

from dataclasses import replace
from typing import Any

import torch

from saliencykit.core.alternative import compose
from saliencykit.core.objective import Term, Trial
from saliencykit.core.types import PerImage
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.testing.contracts.case import (
    CLOSE,
    SIZES,
    Case,
    Clause,
    borrows,
    derived_from,
    is_part,
    seeded,
)

KIND = derived_from("Term", "penalty")
OWN_CALL = Clause(
    "__call__ is the library's: it checks the penalty and multiplies by the weight",
    "implement penalty only",
)
PENALTY = Clause(
    "a penalty is one finite float per image, also for empty, full and binary masks and for "
    "saturated probabilities",
    "mean over dimensions 1, 2 and 3, not over 0; use log_softmax, and avoid log(0)",
)
REPEATS = Clause("the same trial gets the same penalty", "keep no state and draw nothing")
ROWS = Clause(
    "a penalty depends on that image's trial alone, not on the batch around it",
    "no mean or sum over dimension 0",
)
WEIGHT = Clause(
    "the weight, a field of the dataclass, multiplies the penalty, which does not depend on it",
    "write @dataclass(frozen=True, kw_only=True) above the class, and leave the weight to __call__",
)
LOGITS = Clause("reads_logits=False does not depend on logits", "leave reads_logits at True")
DIFFERENTIABLE = Clause(
    "a penalty is differentiable with respect to the mask",
    "no detach, rounding or numpy between mask and penalty",
)
SLOPE = Clause(
    "the gradient is finite, also where the mask is exactly 0 or 1",
    "no square root, logarithm or division at 0; clamp before it",
)
GIVES_BACK = borrows("the trial", "no operation in place on the trial")


def check_term(term: Term) -> None:
    """Check a term: one finite value per image, independent of the batch, differentiable with
    respect to the mask.

    Args:
        term: The term to check, on trials of six small images with gray, binary, empty and full
            masks.

    Raises:
        BrokenContractError: It breaks its contract; a ContractError and an AssertionError.

    Example:
        >>> from saliencykit.terms import Area
        >>> check_term(Area(weight=2.0))
    """
    who = f"check_term({term!r})"
    is_part(term, Term, KIND, OWN_CALL, who)
    for size, dtype in zip(SIZES, (torch.float32, torch.float64), strict=True):
        trial = _trial(size, dtype)
        tensors = _tensors(trial)
        case = Case(who, {f"trial.{name}": value for name, value in tensors.items()})
        with (
            case.lending(GIVES_BACK, None, **tensors),
            case.expecting(PENALTY, "one float per image"),
        ):
            penalty = term(trial).detach().clone()
        _check_penalty(term, trial, penalty, case)
        _check_slope(term, trial, case)


def _tensors(trial: Trial) -> dict[str, torch.Tensor]:
    return {name: value for name, value in vars(trial).items() if isinstance(value, torch.Tensor)}


def _check_penalty(term: Term, trial: Trial, penalty: PerImage, case: Case) -> None:
    close = CLOSE * float(penalty.abs().max().clamp_min(1.0))

    def penalty_of(some: torch.Tensor) -> PerImage:
        rows: dict[str, Any] = {name: value[some] for name, value in _tensors(trial).items()}
        return term(replace(trial, **rows))

    case.same(REPEATS, penalty, term(trial), close, how="a second time")
    case.rows(ROWS, penalty_of, penalty, close)
    with case.expecting(WEIGHT, "a copy with another weight"):
        heavier = replace(term, weight=2 * term.weight)(trial)
    case.same(WEIGHT, 2 * penalty, heavier, 2 * close, how="with twice the weight")
    if not term.reads_logits:
        other = replace(trial, preserved=-trial.preserved, destroyed=-trial.destroyed)
        case.same(LOGITS, penalty, term(other), close, how="with other logits")


def _check_slope(term: Term, trial: Trial, case: Case) -> None:
    mask, black_box = trial.mask.clone().requires_grad_(True), PlantedEvidence()
    gray = torch.full_like(trial.images, 0.5)
    kept, dropped = compose(trial.images, mask, gray), compose(trial.images, 1 - mask, gray)
    edited = replace(trial, mask=mask, preserved=black_box(kept), destroyed=black_box(dropped))
    penalty = term(edited)
    flags = "requires_grad True", "requires_grad False"
    case.require(penalty.requires_grad, DIFFERENTIABLE, *flags)
    (slope,) = torch.autograd.grad(penalty.sum(), mask)
    for at in (~torch.isfinite(slope)).nonzero()[:1].tolist():
        value, there = float(slope[tuple(at)]), float(trial.mask[tuple(at)])
        got = f"{value} at {at}, where the mask is {there}"
        case.require(False, SLOPE, "finite numbers", got)


def _trial(size: tuple[int, int], dtype: torch.dtype) -> Trial:
    images, labels = PlantedEvidence().examples(6, generator=seeded(1), size=size)
    mask = torch.rand(images[:, :1].shape, generator=seeded(3), dtype=torch.float32, device="cpu")
    mask[0], mask[1], mask[2] = 0, 1, (mask[2] > 0.5).float()
    scale = mask.new_tensor([0.0, 1.0, 10.0, 100.0, 1.0, 1.0])[:, None]
    noise = torch.randn(2, 6, 4, generator=seeded(2), dtype=torch.float32, device="cpu")
    kept, dropped = (noise * scale).to(dtype)
    real = mask.new_tensor([1, 1, 1, 1, 0, 0])
    return Trial(images.to(dtype), labels, real, mask.to(dtype), kept, dropped)
