"""The suite must catch what it promises to catch: each part below breaks one clause as real ones
do.
"""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core import rng
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.masker_output import MaskerOutput
from saliencykit.maskers.baselines import CenterBox
from saliencykit.testing import BrokenContractError, check_masker
from saliencykit.testing.contracts import masker as suite


@dataclass(frozen=True)
class Given(Masker):
    given: Any
    needs_gradient: Any = False

    def mask(self, black_box, images, labels, generator):
        return self.given(black_box, images, labels, generator)


class OwnAttribute(Given):
    def attribute(self, black_box, images, labels, *, generator):
        return MaskerOutput(images[:, :1])


class OtherWhenBound(Given):
    def for_black_box(self, black_box, *, inputs="raw"):
        return Given(lambda b, x, y, g: 1 - self.given(b, x, y, g))


class NotBound(Given):
    def for_black_box(self, black_box, *, inputs="raw"):
        return None


@dataclass(frozen=True)
class OnePass(Given):
    answer: Any = None

    def one_pass(self, black_box, images):
        return self.answer(self, black_box(images))


class Unnamed(Given):
    def identity(self):
        return str(torch.rand(1))


@dataclass(frozen=True)
class Fitted(Given):
    confidence: Any = None
    fit_options: Any = None


class Remembers(Masker):
    seen = 0

    def mask(self, black_box, images, labels, generator):
        type(self).seen += 1
        return images[:, :1] * 0 + 1 / self.seen


def slope(black_box, x, y, g):
    with torch.enable_grad():
        x = x.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(black_box(x).gather(1, y[:, None]).sum(), x)
    return F.normalize(gradient.abs().amax(1, keepdim=True).flatten(1), float("inf"), 1).view_as(
        x[:, :1]
    )


def plain_slope(black_box, x, y, g):
    x = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(black_box(x).sum(), x)
    return gradient[:, :1].abs().clamp(0, 1)


def first_channel(black_box, x, y, g):
    return x[:, :1]


def trains(black_box, x, y, g):
    if isinstance(black_box, TorchBlackBox):
        black_box.model.eval()
    return x[:, :1]


def hooks(black_box, x, y, g):
    if isinstance(black_box, TorchBlackBox):
        black_box.model[0].register_forward_hook(lambda *a: None)
    return x[:, :1]


def backward(black_box, x, y, g):
    with torch.enable_grad():
        black_box(x.clone().requires_grad_(True)).sum().backward()
    return x[:, :1]


BROKEN = [
    (3, suite.KIND, "int"),
    (OwnAttribute(None), suite.OWN_CALL, "OwnAttribute.attribute"),
    (Given(None, needs_gradient="yes"), suite.DECLARES, "'yes'"),
    (Given(lambda b, x, y, g: x), suite.MASKS, "a mask has shape"),
    (Given(lambda b, x, y, g: x[:, :1] - 1), suite.MASKS, "a mask must be in [0, 1]"),
    (Given(lambda b, x, y, g: x[:, :1] / 0), suite.MASKS, "a mask is finite"),
    (Given(lambda b, x, y, g: x[:, :1] > 0.5), suite.MASKS, "a mask is float"),
    (Given(lambda b, x, y, g: x.view(-1, 3, 16, 16)[:, :1]), suite.MASKS, "it raised RuntimeError"),
    (Given(plain_slope), suite.MASKS, "does not require grad"),
    (Remembers(), suite.REPEATS, "computed again after other images"),
    (
        Given(lambda b, x, y, g: torch.rand(x[:, :1].shape, generator=g)),
        suite.ROWS,
        "for rows 3, 2, 1, 0 alone",
    ),
    (
        Given(lambda b, x, y, g: x[:, :1] / x[:, :1].max()),
        suite.ROWS,
        "for row 3 alone",
    ),
    (Fitted(None, confidence="high"), suite.DECLARES, "'high'"),
    (Fitted(None, fit_options=["own"]), suite.DECLARES, "['own']"),
    (Unnamed(None), suite.DECLARES, "two texts"),
    (NotBound(first_channel), suite.BINDS, "NoneType"),
    (OtherWhenBound(first_channel), suite.BINDS, "after for_black_box"),
    (OnePass(first_channel, answer=lambda m, z: None), suite.ONE_PASS, "expected a Masker and"),
    (OnePass(first_channel, answer=lambda m, z: (m, z[:1])), suite.ONE_PASS, "expected logits of"),
    (OnePass(first_channel, answer=lambda m, z: (m, 2 * z)), suite.ONE_PASS, "logits of one_pass"),
    (
        OnePass(first_channel, answer=lambda m, z: (CenterBox(), z)),
        suite.ONE_PASS,
        "by the masker of one_pass",
    ),
    (Given(slope), suite.QUERY_ONLY, "does not require grad"),
    (
        Given(lambda b, x, y, g: torch.rand(x[:, :1].shape)),
        suite.GIVES_BACK,
        "changed the random state of torch",
    ),
    (Given(trains), suite.GIVES_BACK, "changed the mode of the model, the mode of 0"),
    (Given(hooks), suite.GIVES_BACK, "changed the hooks of 0"),
    (Given(backward, needs_gradient=True), suite.GIVES_BACK, "changed the gradient of "),
    (Given(lambda b, x, y, g: x.mul_(0.5)[:, :1]), suite.GIVES_BACK, "changed images"),
]


@pytest.mark.parametrize(("part", "clause", "words"), BROKEN)
def test_a_broken_part_is_found(part, clause, words, breaks, alone):
    breaks(check_masker, part, clause, words)


def test_every_clause_has_a_broken_part(covers):
    covers(suite, BROKEN)


def test_good_maskers_pass():
    check_masker(Given(slope, needs_gradient=True))
    check_masker(OnePass(first_channel, answer=lambda m, z: (m, z)))
    check_masker(Fitted(first_channel, confidence=0.0, fit_options={"encoder": "own"}))
    check_masker(Given(lambda b, x, y, g: rng.uniform(x, (1, 4, 4), generator=g)))
    check_masker(
        Given(
            lambda b, x, y, g: MaskerOutput(b(x).softmax(1).gather(1, y[:, None])[:, :, None, None])
        )
    )


def test_a_masker_that_reads_layers_is_checked_on_a_network():
    def layers(black_box, x, y, g):
        if black_box.module is None:
            raise InputError("no layers here")
        return x[:, :1]

    check_masker(Given(layers))
    with pytest.raises(BrokenContractError, match="got: InputError: no layers at all"):
        check_masker(Given(refuses))


def refuses(black_box, x, y, g):
    raise InputError("no layers at all")


def test_a_masker_may_be_checked_on_another_black_box():
    black_box = TorchBlackBox(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 5))
    )
    black_box(torch.rand(1, 3, 8, 8))
    check_masker(
        CenterBox(),
        black_box=black_box,
        images=torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
    )
    with pytest.raises(InputError, match="give images= that it takes too"):
        check_masker(CenterBox(), black_box=black_box)
