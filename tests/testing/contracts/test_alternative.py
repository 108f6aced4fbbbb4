"""The suite must catch what it promises to catch: each part below breaks one clause as real ones
do.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from saliencykit.core import rng
from saliencykit.core.alternative import Alternative
from saliencykit.testing import check_alternative
from saliencykit.testing.contracts import alternative as suite


@dataclass(frozen=True)
class Fill(Alternative):
    given: Any
    uses_mask: Any = False

    def fill(self, images, generator, mask=None):
        return self.given(images, generator, mask)


@dataclass(frozen=True)
class Edit(Fill):
    changed: Any = None

    def edit(self, images, mask, generator):
        return self.changed(images, mask, generator)


class OwnCall(Fill):
    def __call__(self, images, *, generator, mask=None):
        return images


class NoBox(Fill):
    def for_black_box(self, black_box):
        return None


class Remembers(Alternative):
    calls = 0

    def fill(self, images, generator, mask=None):
        self.calls += 1
        return images * 0 + self.calls


def with_gradient(x, g, m):
    with torch.enable_grad():
        return x * torch.ones(1, dtype=x.dtype, requires_grad=True)


def zero(x, g, m):
    return x * 0


BROKEN = [
    (3, suite.KIND, "int"),
    (OwnCall(zero), suite.OWN_CALL, "OwnCall.__call__"),
    (NoBox(zero), suite.BINDS, "NoneType"),
    (Fill(lambda x, g, m: x[:, :1]), suite.FILLS, "expected (4, 3"),
    (Fill(lambda x, g, m: x / 0), suite.FILLS, "NaN or infinite"),
    (Fill(lambda x, g, m: x.to(torch.float32)), suite.FILLS, "torch.float32"),
    (Fill(lambda x, g, m: x.view(4, 3, 16, 16)), suite.ROWS, "it raised RuntimeError"),
    (Fill(lambda x, g, m: x * m, uses_mask=True), suite.WITHOUT_MASK, "it raised TypeError"),
    (Remembers(), suite.REPEATS, "there, a difference of"),
    (
        Fill(lambda x, g, m: torch.rand(x.shape, generator=g, dtype=x.dtype)),
        suite.ROWS,
        "for rows 3, 2, 1, 0 alone",
    ),
    (
        Fill(lambda x, g, m: x.mean(0, keepdim=True).expand_as(x)),
        suite.ROWS,
        "for row 3 alone",
    ),
    (
        Fill(lambda x, g, m: x + 0 * torch.rand(len(x), generator=g).sum()),
        suite.ADVANCES,
        "another state after 4 images",
    ),
    (Fill(lambda x, g, m: x if m is None else x * m), suite.IGNORES_MASK, "with mask="),
    (Fill(with_gradient), suite.NO_GRADIENT, "requires_grad True"),
    (Edit(zero, changed=lambda x, m, g: x * 0), suite.KEEPS, "edited with a mask of ones"),
    (Edit(zero, changed=lambda x, m, g: (x * m).half()), suite.EDITS, "float16"),
    (Edit(zero, changed=lambda x, m, g: x / m), suite.EDITS, "to inf"),
    (Edit(zero, changed=lambda x, m, g: 1 / 0), suite.EDITS, "ZeroDivisionError"),
    (
        Edit(zero, changed=lambda x, m, g: x * m + (1 - m) * x.mean()),
        suite.EDIT_ROWS,
        "for row 3 alone",
    ),
    (
        Fill(lambda x, g, m: torch.rand(x.shape, dtype=x.dtype)),
        suite.GIVES_BACK,
        "changed the random state of torch",
    ),
    (
        Fill(lambda x, g, m: x * 0 + np.random.rand()),
        suite.GIVES_BACK,
        "changed the random state of numpy",
    ),
    (Fill(lambda x, g, m: x.mul_(0.5)), suite.GIVES_BACK, "changed images"),
    (Edit(zero, changed=lambda x, m, g: x * m.clamp_(0.1)), suite.GIVES_BACK, "changed mask"),
]


@pytest.mark.parametrize(("part", "clause", "words"), BROKEN)
def test_a_broken_part_is_found(part, clause, words, breaks):
    breaks(check_alternative, part, clause, words)


def test_every_clause_has_a_broken_part(covers):
    covers(suite, BROKEN)


def test_good_alternatives_pass():
    check_alternative(Fill(lambda x, g, m: rng.uniform(x, tuple(x.shape[1:]), generator=g)))
    check_alternative(Fill(lambda x, g, m: x * (1 - m) if m is not None else x * 0, uses_mask=True))
