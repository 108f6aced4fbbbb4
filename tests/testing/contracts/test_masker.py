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
from saliencykit.core.masker import Masker, MaskerOutput
from saliencykit.maskers.baselines import CenterBox
from saliencykit.testing.contracts import BrokenContractError, check_masker
from saliencykit.testing.contracts import masker as suite


@dataclass(frozen=True)
class Given(Masker):
    given: Any
    needs_gradient: Any = False

    def mask(self, black_box, images, labels, generator):
        return self.given(black_box, images, labels, generator)


class OwnFind(Given):
    def find(self, black_box, images, labels, *, generator):
        return MaskerOutput(images[:, :1])


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
    (OwnFind(None), suite.OWN_CALL, "OwnFind.find"),
    (Given(None, needs_gradient="yes"), suite.SAYS, "'yes'"),
    (Given(lambda b, x, y, g: x), suite.MASKS, "a mask has shape"),
    (Given(lambda b, x, y, g: x[:, :1] - 1), suite.MASKS, "a mask is in [0, 1]"),
    (Given(lambda b, x, y, g: x[:, :1] / 0), suite.MASKS, "a mask is finite"),
    (Given(lambda b, x, y, g: x[:, :1] > 0.5), suite.MASKS, "a mask is float"),
    (Given(lambda b, x, y, g: x.view(-1, 3, 16, 16)[:, :1]), suite.MASKS, "it raised RuntimeError"),
    (Given(plain_slope), suite.MASKS, "does not require grad"),
    (Remembers(), suite.REPEATS, "asked again after a question about other pictures"),
    (
        Given(lambda b, x, y, g: torch.rand(x[:, :1].shape, generator=g)),
        suite.ROWS,
        "asked for rows 3, 2, 1, 0 of the input alone",
    ),
    (
        Given(lambda b, x, y, g: x[:, :1] / x[:, :1].max()),
        suite.ROWS,
        "asked for row 3 of the input alone",
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
def test_a_broken_part(part, clause, words, breaks):
    breaks(check_masker, part, clause, words)


def test_every_clause_is_broken_by_one(covers):
    covers(suite, BROKEN)


def test_good_maskers_pass():
    check_masker(Given(slope, needs_gradient=True))
    check_masker(Given(lambda b, x, y, g: rng.uniform(x, (1, 4, 4), generator=g)))
    check_masker(
        Given(
            lambda b, x, y, g: MaskerOutput(b(x).softmax(1).gather(1, y[:, None])[:, :, None, None])
        )
    )


def test_one_that_reads_layers_gets_a_box_that_has_some():
    def layers(black_box, x, y, g):
        if black_box.module is None:
            raise InputError("no layers here")
        return x[:, :1]

    check_masker(Given(layers))
    with pytest.raises(BrokenContractError, match="got: InputError: no layers at all"):
        check_masker(Given(refuses))


def refuses(black_box, x, y, g):
    raise InputError("no layers at all")


def test_a_masker_for_a_box_of_ones_own():
    black_box = TorchBlackBox(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 5))
    )
    black_box(torch.rand(1, 3, 8, 8))
    check_masker(
        CenterBox(),
        black_box=black_box,
        images=torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
    )
    with pytest.raises(InputError, match="images= that it takes are given too"):
        check_masker(CenterBox(), black_box=black_box)
