import pytest
import torch

from saliencykit.alternatives.blur import Blur
from saliencykit.core.alternative import Alternative, compose, value_range
from saliencykit.core.errors import ContractError, InputError

X = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
G = torch.Generator()


class Fill(Alternative):
    def __init__(self, fill):
        self.given = fill

    def fill(self, images, generator, mask=None):
        return self.given(images, mask)


def test_compose_matches_numbers_computed_by_hand():
    x, m, a = (
        torch.tensor([[[[0.2]], [[0.8]]]]),
        torch.tensor([[[[0.75]]]]),
        torch.tensor([[[[1.0]], [[0.0]]]]),
    )
    assert torch.allclose(compose(x, m, a).flatten(), torch.tensor([0.2 * 0.75 + 0.25, 0.8 * 0.75]))


def test_the_value_range_contains_0_and_1():
    low, high = value_range(
        torch.stack([torch.full((3, 2, 2), 0.3), torch.linspace(-2, 3, 12).view(3, 2, 2)])
    )
    assert low.shape == high.shape == (2, 1, 1, 1)
    assert low.flatten().tolist() == [0.0, -2.0]
    assert high.flatten().tolist() == [1.0, 3.0]


def test_a_class_without_the_verb_cannot_be_instantiated():
    with pytest.raises(TypeError, match="fill"):
        Alternative()


def test_defaults():
    fill = Fill(lambda x, m: x + 1)
    assert fill.uses_mask is False
    assert fill.for_black_box(None) is fill
    assert torch.equal(fill(X, generator=G), X + 1)
    assert torch.equal(fill.edit(X, torch.zeros(2, 1, 4, 5), G), X + 1)
    assert torch.allclose(fill.edit(X, torch.full((2, 1, 4, 5), 0.5), G), X + 0.5)


def test_the_mask_reaches_the_fill_without_its_gradient():
    seen = []
    mask = torch.rand(2, 1, 4, 5, requires_grad=True)
    Fill(lambda x, m: (seen.append(m), x)[1]).edit(X, mask, G)
    assert torch.equal(seen[0], mask)
    assert not seen[0].requires_grad


def test_a_fill_carries_no_gradient_and_an_edit_that_of_the_mask():
    x, mask = X.clone().requires_grad_(True), torch.rand(2, 1, 4, 5, requires_grad=True)
    half = Fill(lambda x, m: x / 2)
    assert not half(x, generator=G).requires_grad
    (slope,) = torch.autograd.grad(half.edit(x, mask, G).sum(), mask)
    assert torch.allclose(slope, (X / 2).sum(1, keepdim=True))


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (
            lambda x, m: x[:1],
            r"Fill.fill returned \(1, 3, 4, 5\) torch.float32 on cpu; expected "
            r"\(2, 3, 4, 5\)",
        ),
        (lambda x, m: x.double(), "torch.float64 on cpu"),
        (lambda x, m: None, "returned NoneType"),
        (
            lambda x, m: torch.where(torch.arange(2).view(2, 1, 1, 1) == 1, float("nan"), x),
            "NaN or infinite values in row 1",
        ),
    ],
)
def test_a_broken_fill_is_named(fill, words):
    with pytest.raises(ContractError, match=words):
        Fill(fill)(X, generator=G)


def test_images_are_checked():
    with pytest.raises(InputError, match=r"Fill\.fill takes images"):
        Fill(lambda x, m: x)(X[0], generator=G)


def test_under_autocast_the_fill_keeps_the_images_precision():
    images = torch.rand(2, 3, 8, 8)
    plain = Blur(sigma=2.0)(images, generator=G)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(Blur(sigma=2.0)(images, generator=G), plain)
