"""The suite must catch what it promises to catch: each part below breaks one clause as real ones
do.
"""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from saliencykit.core.objective import Term
from saliencykit.testing import check_term
from saliencykit.testing.contracts import term as suite


@dataclass(frozen=True, kw_only=True)
class Given(Term):
    given: Any
    reads_logits: Any = True

    def penalty(self, trial):
        return self.given(trial)


class OwnCall(Given):
    def __call__(self, trial):
        return self.penalty(trial)


class Weighs(Given):
    def penalty(self, trial):
        return self.weight * area(trial)


class Plain(Term):
    def __init__(self):
        object.__setattr__(self, "weight", 1.0)

    def penalty(self, trial):
        return area(trial)


class Remembers(Term):
    calls = 0

    def penalty(self, trial):
        type(self).calls += 1
        return area(trial) + self.calls


def area(trial):
    return trial.mask.mean((1, 2, 3))


def reads(trial):
    return area(trial) + trial.preserved[:, 0]


BROKEN = [
    (3, suite.KIND, "int"),
    (OwnCall(given=area), suite.OWN_CALL, "OwnCall.__call__"),
    (Given(given=lambda t: t.mask.mean()), suite.PENALTY, "expected one float per image"),
    (Given(given=lambda t: area(t).log()), suite.PENALTY, "NaN or infinite value in row 0"),
    (Given(given=lambda t: t.mask.view(6, 256).mean(1)), suite.ROWS, "it raised RuntimeError"),
    (Given(given=lambda t: t.mask.nothing), suite.PENALTY, "it raised AttributeError"),
    (Remembers(), suite.REPEATS, "a second time"),
    (
        Given(given=lambda t: area(t) - t.mask.mean()),
        suite.ROWS,
        "for row 5 alone",
    ),
    (Weighs(given=None), suite.WEIGHT, "with twice the weight"),
    (Plain(), suite.WEIGHT, "it raised TypeError"),
    (Given(given=reads, reads_logits=False), suite.LOGITS, "with other logits"),
    (Given(given=lambda t: area(t).detach()), suite.DIFFERENTIABLE, "requires_grad False"),
    (
        Given(given=lambda t: t.mask.sqrt().mean((1, 2, 3))),
        suite.SLOPE,
        "inf at [0, 0, 0, 0], where the mask is 0.0",
    ),
    (
        Given(given=lambda t: torch.rand(len(t.mask))),
        suite.GIVES_BACK,
        "changed the random state of torch",
    ),
    (Given(given=lambda t: t.mask.mul_(0.5).mean((1, 2, 3))), suite.GIVES_BACK, "changed mask"),
]


@pytest.mark.parametrize(("part", "clause", "words"), BROKEN)
def test_a_broken_part_is_found(part, clause, words, breaks):
    breaks(check_term, part, clause, words)


def test_every_clause_has_a_broken_part(covers):
    covers(suite, BROKEN)


def test_good_terms_pass():
    check_term(Given(given=reads))
    check_term(Given(given=area, reads_logits=False, weight=3.0))
