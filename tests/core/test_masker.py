import pytest
import torch

from saliencykit.core import rng
from saliencykit.core.errors import ContractError, GradientError, InputError
from saliencykit.core.masker import Masker
from saliencykit.core.masker_output import MaskerOutput
from saliencykit.testing.black_boxes import Broken, Counting, PlantedEvidence, QueryOnly
from tests.helpers import seeded

BOX = PlantedEvidence()
X, Y = BOX.examples(3, generator=torch.Generator().manual_seed(0))


class Give(Masker):
    def __init__(self, answer):
        self.answer = answer

    def mask(self, black_box, images, labels, generator):
        return self.answer(black_box, images, labels, generator)


class Slope(Masker):
    """The size of the gradient: needs one."""

    needs_gradient = True

    def mask(self, black_box, images, labels, generator):
        images = images.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(black_box(images).gather(1, labels[:, None]).sum(), images)
        size = slope.abs().amax(1, keepdim=True)
        return MaskerOutput(
            size / size.amax((2, 3), keepdim=True).clamp_min(1e-9),
            slope.sum(1, keepdim=True),
            slope.flatten(1).std(1),
        )


def test_a_class_without_the_verb_cannot_be_instantiated():
    with pytest.raises(TypeError, match="mask"):
        Masker()


def test_a_small_mask_is_enlarged_bilinearly():
    small = torch.rand(3, 1, 4, 4, generator=seeded())
    mask = Give(lambda *_: small)(BOX, X, Y, generator=seeded())
    assert mask.shape == (3, 1, 16, 16)
    assert torch.equal(
        mask,
        torch.nn.functional.interpolate(small, size=(16, 16), mode="bilinear", align_corners=False),
    )


def test_a_mask_of_the_right_size_is_left_alone():
    whole = torch.rand(3, 1, 16, 16, generator=seeded())
    assert torch.equal(Give(lambda *_: whole)(BOX, X, Y, generator=seeded()), whole)


def test_attribute_returns_attributions_and_their_error():
    found = Slope().attribute(BOX, X, Y, generator=seeded())
    assert found.mask.shape == found.attributions.shape == (3, 1, 16, 16)
    assert found.standard_error.shape == (3,)
    assert not any(t.requires_grad for t in (found.mask, found.attributions, found.standard_error))
    small = torch.rand(3, 1, 2, 2)
    found = Give(lambda *_: MaskerOutput(small, small - 0.5, small)).attribute(
        BOX, X, Y, generator=seeded()
    )
    assert found.attributions.shape == found.standard_error.shape == (3, 1, 16, 16)
    bare = Give(lambda *_: small).attribute(BOX, X, Y, generator=seeded())
    assert (bare.attributions, bare.standard_error) == (None, None)


def test_the_mask_is_detached():
    mask = Give(lambda b, x, y, g: torch.rand(3, 1, 4, 4, requires_grad=True))(
        BOX, X, Y, generator=seeded()
    )
    assert not mask.requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_it_opens_its_own_grad_mode(mode):
    modes = []
    record_calls = Give(lambda b, x, y, g: (modes.append(torch.is_grad_enabled()), x[:, :1])[1])
    with mode():
        inside = Slope()(BOX, X, Y, generator=seeded())
        record_calls(BOX, X, Y, generator=seeded())
        own = Slope()(BOX, X * 1, Y * 1, generator=seeded())  # tensors made under inference mode
    assert torch.equal(inside, Slope()(BOX, X, Y, generator=seeded()))
    assert torch.allclose(own, inside)
    assert modes == [False]


def test_a_query_only_black_box_is_refused_before_the_first_query():
    black_box = Counting(QueryOnly(BOX))
    with pytest.raises(
        GradientError, match=r"Slope needs gradients and Counting is query-only. Use masker='rise'"
    ):
        Slope()(black_box, X, Y, generator=seeded())
    assert black_box.batch_sizes == []


def test_the_generator_advances_by_one_number_whatever_mask_draws():
    states = []
    for n in (1, 50):
        g = seeded()
        Give(
            lambda b, x, y, own, n=n: (
                torch.rand(n, generator=own)[:1].view(1, 1, 1, 1).expand(3, 1, 1, 1)
            )
        )(BOX, X, Y, generator=g)
        states.append(g.get_state())
    g = seeded()
    rng.fork(g)
    assert all(torch.equal(state, g.get_state()) for state in states)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            torch.zeros(3, 3, 16, 16),
            r"Give.mask returned shape \(3, 3, 16, 16\); a mask has shape \(3, 1, h, w\)",
        ),
        (torch.zeros(2, 1, 16, 16), "a mask has shape"),
        (torch.full((3, 1, 2, 2), 1.01), r"from 1.01 to 1.01; a mask must be in \[0, 1\]"),
        (torch.full((3, 1, 2, 2), float("nan")), "a mask is finite"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.int64), "a mask is float"),
        (None, "NoneType"),
    ],
)
def test_a_broken_mask_is_reported(answer, words):
    for given in (answer, MaskerOutput(answer)):
        with pytest.raises(ContractError, match=words):
            Give(lambda *_, given=given: given)(BOX, X, Y, generator=seeded())


@pytest.mark.parametrize(
    "extra",
    [
        {"attributions": X},
        {"attributions": torch.rand(3)},
        {"standard_error": torch.rand(2)},
        {"attributions": "high"},
    ],
)
def test_broken_attributions_and_errors_are_reported(extra):
    with pytest.raises(
        ContractError,
        match=rf"Give\.mask: {next(iter(extra))} are .*; expected floats \(3, 1, h, w\)",
    ):
        Give(lambda *_: MaskerOutput(X[:, :1], **extra)).attribute(BOX, X, Y, generator=seeded())


def test_inputs_are_checked():
    whole = Give(lambda b, x, y, g: torch.ones_like(x[:, :1]))
    with pytest.raises(InputError, match="Give takes images"):
        whole(BOX, X[0], Y, generator=seeded())
    with pytest.raises(InputError, match="label 4 in row 0 is outside"):
        whole(BOX, X, torch.tensor([4, 0, 0]), generator=seeded())
    with pytest.raises(ContractError, match=r"Broken.logits"):
        Give(lambda b, x, y, g: b(x)[:, :1, None, None].sigmoid())(
            Broken(how="nan"), X, Y, generator=seeded()
        )


class Bind(Give):
    def for_black_box(self, black_box, *, inputs="raw"):
        return self.answer()


def leave(*_):
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (lambda: 1 / 0, ContractError, "Bind.for_black_box raised ZeroDivisionError: division"),
        (lambda: leave(), ContractError, r"Bind.for_black_box raised SystemExit\(3\)"),
        (lambda: 3, ContractError, "Bind.for_black_box returned int; expected a Masker"),
        (lambda: rng.fork(None), ContractError, "Bind.for_black_box raised"),
        (lambda: Broken(how="nan")(X), ContractError, "NaN"),
    ],
)
def test_a_masker_that_cannot_be_bound_is_one_error(answer, kind, words):
    with pytest.raises(kind, match=words):
        Bind(answer).bound_to(BOX)


def test_a_masker_that_ends_the_program_is_an_error():
    with pytest.raises(ContractError, match=r"Give.mask raised SystemExit\(3\); it must raise"):
        Give(leave)(BOX, X, Y, generator=seeded())
