"""The suite must catch what it promises to catch: each part below breaks one clause as real ones
do.
"""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from saliencykit.core import rng
from saliencykit.core.metric import Metric
from saliencykit.testing import check_metric
from saliencykit.testing.contracts import metric as suite


@dataclass(frozen=True)
class Scorer(Metric):
    given: Any
    higher_is_better = True

    def score(self, black_box, sample, mask, *, explain, generator):
        return self.given(black_box, sample, mask, generator)


class Silent(Metric):
    def score(self, black_box, sample, mask, *, explain, generator):
        return mask.mean((1, 2, 3))


class OwnCall(Scorer):
    def __call__(self, black_box, sample, mask, *, explain, generator):
        return {}


class NoData(Scorer):
    def for_data(self, sample):
        return None


class Fails(Scorer):
    def for_data(self, sample):
        return sample.boxes[0]


class Remembers(Scorer):
    calls = 0

    def score(self, black_box, sample, mask, *, explain, generator):
        type(self).calls += 1
        return area(black_box, sample, mask, generator) + self.calls


def area(black_box, sample, mask, generator):
    return mask.mean((1, 2, 3))


def slope(black_box, sample, mask, generator):
    with torch.enable_grad():
        images = sample.images.clone().requires_grad_(True)
        return torch.autograd.grad(black_box(images).sum(), images)[0].mean((1, 2, 3))


BROKEN = [
    (3, suite.KIND, "int"),
    (OwnCall(area), suite.OWN_CALL, "OwnCall.__call__"),
    (Silent(), suite.DIRECTION, "None"),
    (NoData(area), suite.FOR_DATA, "NoneType"),
    (Fails(area), suite.FOR_DATA, "it raised TypeError"),
    (Scorer(lambda b, s, m, g: m.mean()), suite.SCORES, "expected one float per image"),
    (
        Scorer(lambda b, s, m, g: b(s.images * m).argmax(1)),
        suite.SCORES,
        "expected one float per image",
    ),
    (Scorer(lambda b, s, m, g: {}), suite.SCORES, "returned no values"),
    (
        Scorer(lambda b, s, m, g: torch.tensor([float(len(boxes)) for boxes in s.boxes])),
        suite.SCORES,
        "it raised TypeError",
    ),
    (Scorer(slope), suite.SCORES, "does not require grad"),
    (
        Scorer(lambda b, s, m, g: {"boxes" if s.boxes else "none": m.mean((1, 2, 3))}),
        suite.NAMES,
        "['boxes']",
    ),
    (Scorer(lambda b, s, m, g: {str(len(m)): m.mean((1, 2, 3))}), suite.NAMES, "['1']"),
    (Remembers(area), suite.REPEATS, "a second time"),
    (
        Scorer(lambda b, s, m, g: m.mean((1, 2, 3)) - m.mean()),
        suite.ROWS,
        "for row 3 alone",
    ),
    (
        Scorer(lambda b, s, m, g: torch.rand(len(m), generator=g)),
        suite.ROWS,
        "for rows 3, 2, 1, 0 alone",
    ),
    (
        Scorer(lambda b, s, m, g: torch.rand(len(m))),
        suite.GIVES_BACK,
        "changed the random state of torch",
    ),
    (Scorer(lambda b, s, m, g: m.mul_(0.5).mean((1, 2, 3))), suite.GIVES_BACK, "changed mask"),
]


@pytest.mark.parametrize(("part", "clause", "words"), BROKEN)
def test_a_broken_part_is_found(part, clause, words, breaks):
    breaks(check_metric, part, clause, words)


def test_every_clause_has_a_broken_part(covers):
    covers(suite, BROKEN)


def test_the_wrong_score_is_reported_by_name():
    wrong = Scorer(
        lambda b, s, m, g: {"good": m.mean((1, 2, 3)), "bad": m.mean((1, 2, 3)) - m.mean()}
    )
    with pytest.raises(AssertionError, match="input: score bad; images float32"):
        check_metric(wrong)


def test_good_metrics_pass():
    check_metric(
        Scorer(
            lambda b, s, m, g: {"a": m.mean((1, 2, 3)), "b": torch.full((len(m),), float("nan"))}
        )
    )
    check_metric(Scorer(lambda b, s, m, g: rng.uniform(s.images, (1,), generator=g)[:, 0]))
