"""check_term: everything that the library relies on of a term."""

from dataclasses import fields, replace

import torch

from saliencykit.core.alternative import compose
from saliencykit.core.objective import Term, Trial
from saliencykit.core.types import PerImage
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.testing.contracts.case import CLOSE, SIZES, Case, Clause, is_part, seeded

KIND = Clause(
    "it is derived from saliencykit.Term",
    "write class Mine(saliencykit.Term) and implement penalty",
)
OWN_CALL = Clause(
    "__call__ is the library's: it checks the penalty and multiplies by the weight",
    "implement penalty only",
)
PENALTY = Clause(
    "a penalty is one finite float per image, also for empty, full and binary masks and for sure "
    "answers",
    "mean over dimensions 1, 2 and 3, not over 0; work with log_softmax, and keep away from log(0)",
)
REPEATS = Clause(
    "the same trial gets the same penalty", "keep nothing between calls and draw nothing"
)
ROWS = Clause(
    "a penalty depends on that image's trial alone, not on the batch around it",
    "no mean or sum over dimension 0",
)
WEIGHT = Clause(
    "the weight multiplies the penalty: it is a field of a dataclass, and penalty does not look "
    "at it",
    "write @dataclass(frozen=True, kw_only=True) above the class, and leave the weight to __call__",
)
LOGITS = Clause("reads_logits=False does not look at the answers", "leave reads_logits at True")
DIFFERENTIABLE = Clause(
    "a penalty is differentiable with respect to the mask",
    "no detach, rounding or numpy on the way from the mask",
)
SLOPE = Clause(
    "the gradient is finite, also where the mask is exactly 0 or 1",
    "no square root, logarithm or division at 0; clamp before it",
)
GIVES_BACK = Clause(
    "what is borrowed is given back as it was: the trial and the global random state",
    "no operation in place on the trial",
)


def check_term(term: Term) -> None:
    """Check a term: one finite value per image, independent of the batch, differentiable with
    respect to the mask.

    Args:
        term: What is checked, on trials of six small pictures with grey, binary, empty and full
            masks.

    Raises:
        BrokenContractError: It breaks its contract; a ContractError and an AssertionError.

    Example:
        >>> from saliencykit.terms.area import Area
        >>> check_term(Area(weight=2.0))
    """
    who = f"check_term({term!r})"
    is_part(term, Term, KIND, OWN_CALL, who)
    for size, dtype in zip(SIZES, (torch.float32, torch.float64), strict=True):
        trial = _trial(size, dtype)
        tensors = {f.name: getattr(trial, f.name) for f in fields(trial)}
        case = Case(who, {f"trial.{name}": value for name, value in tensors.items()})
        with (
            case.borrowing(GIVES_BACK, None, **tensors),
            case.asking(PENALTY, "one float per image"),
        ):
            penalty = term(trial).detach().clone()
        _check_penalty(term, trial, penalty, case)
        _check_slope(term, trial, case)


def _check_penalty(term: Term, trial: Trial, penalty: PerImage, case: Case) -> None:
    close = CLOSE * float(penalty.abs().max().clamp_min(1.0))
    tensors = {f.name: getattr(trial, f.name) for f in fields(trial)}
    case.same(REPEATS, penalty, term(trial), close, how="asked a second time")
    case.rows(
        ROWS,
        lambda some: term(Trial(**{name: value[some] for name, value in tensors.items()})),
        penalty,
        close,
    )
    with case.asking(WEIGHT, "a copy with another weight"):
        heavier = replace(term, weight=2 * term.weight)(trial)
    case.same(WEIGHT, 2 * penalty, heavier, 2 * close, how="with twice the weight")
    if not term.reads_logits:
        other = replace(trial, preserved=-trial.preserved, destroyed=-trial.destroyed)
        case.same(LOGITS, penalty, term(other), close, how="with other logits")


def _check_slope(term: Term, trial: Trial, case: Case) -> None:
    mask = trial.mask.clone().requires_grad_(True)
    gray = torch.full_like(trial.images, 0.5)
    ask, kept, dropped = (
        PlantedEvidence(),
        compose(trial.images, mask, gray),
        compose(trial.images, 1 - mask, gray),
    )
    judged = term(replace(trial, mask=mask, preserved=ask(kept), destroyed=ask(dropped)))
    case.require(
        judged.requires_grad,
        DIFFERENTIABLE,
        expected="requires_grad True",
        got="requires_grad False",
    )
    (slope,) = torch.autograd.grad(judged.sum(), mask)
    bad = (~torch.isfinite(slope)).nonzero()
    for at in map(tuple, bad[:1]):
        got = f"{float(slope[at])} at {bad[0].tolist()}, where the mask is {float(trial.mask[at])}"
        case.require(False, SLOPE, expected="finite numbers", got=got)


def _trial(size: tuple[int, int], dtype: torch.dtype) -> Trial:
    black_box = PlantedEvidence()
    images, labels = black_box.examples(6, generator=seeded(1), size=size)
    mask = torch.rand(images[:, :1].shape, generator=seeded(3))
    mask[0], mask[1], mask[2] = 0, 1, (mask[2] > 0.5).float()
    logits = (
        torch.randn(2, 6, 4, generator=seeded(2))
        * torch.tensor([0.0, 1.0, 10.0, 100.0, 1.0, 1.0])[:, None]
    )
    real = torch.tensor([True, True, True, True, False, False])
    return Trial(
        images.to(dtype), labels, real, mask.to(dtype), logits[0].to(dtype), logits[1].to(dtype)
    )
