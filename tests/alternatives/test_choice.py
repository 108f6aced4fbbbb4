import pytest
import torch

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.choice import Choice
from saliencykit.alternatives.constant import Constant
from saliencykit.core.alternative import Alternative
from saliencykit.core.errors import InputError
from tests.helpers import seeded

X = torch.rand(400, 3, 6, 6, generator=torch.Generator().manual_seed(0))
BLACK_OR_WHITE = Choice(alternatives=(Constant(color=0.0), Constant(color=1.0)))


def test_each_image_gets_one_alternative_with_equal_probability():
    fill = BLACK_OR_WHITE(X, generator=seeded())
    per_image = fill.flatten(1)
    assert torch.equal(per_image.amin(1), per_image.amax(1))
    assert 0.42 < per_image.mean() < 0.58


def test_every_call_draws_again():
    g = seeded()
    first, second = BLACK_OR_WHITE(X, generator=g), BLACK_OR_WHITE(X, generator=g)
    assert 0.4 < (first != second).float().mean() < 0.6


def test_the_default_is_blur_or_noise_as_in_the_paper():
    fill, blurred = Choice()(X, generator=seeded()), Blur()(X, generator=seeded())
    is_blur = (fill - blurred).flatten(1).abs().amax(1) < 1e-6
    assert 0.42 < is_blur.float().mean() < 0.58


def test_an_image_gets_the_same_fill_alone_and_in_a_batch():
    whole = Choice()(X[:20], generator=seeded())
    for i in range(20):
        assert torch.allclose(
            Choice()(X[i : i + 1], generator=seeded()), whole[i : i + 1], atol=1e-6
        )


def test_the_mask_reaches_the_rows_that_drew_it():
    class Mask(Alternative):
        uses_mask = True

        def fill(self, images, generator, mask=None):
            return mask.expand_as(images).clone()

    mask = torch.rand(20, 1, 6, 6, generator=seeded())
    assert torch.equal(
        Choice(alternatives=(Mask(), Mask()))(X[:20], generator=seeded(), mask=mask),
        mask.expand(20, 3, 6, 6),
    )


def test_for_black_box_reaches_every_alternative():
    class Box:
        baseline_color = (0.1, 0.2, 0.3)

    assert Choice(alternatives=(Blur(), Constant(color="zero"))).for_black_box(
        Box()
    ).alternatives == (
        Blur(),
        Constant(color=(0.1, 0.2, 0.3)),
    )


@pytest.mark.parametrize("among", [(), ("blur",), (Blur(), None)])
def test_a_choice_without_alternatives_is_refused(among):
    with pytest.raises(InputError, match="takes at least one Alternative"):
        Choice(alternatives=among)
