import pytest
import torch
from hypothesis import given

from saliencykit.alternatives.constant import Constant
from saliencykit.core.errors import InputError
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.testing.strategies import images

X = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))


def constant(x=X, **settings):
    return Constant(**settings)(x, generator=torch.Generator())


@given(images(batch=1))
def test_the_color_does_not_depend_on_a_raw_image(x):
    assert torch.equal(constant(x, color=0.25), torch.full_like(x, 0.25))
    assert torch.equal(
        constant(x, color=(0.0, 0.5, 1.0))[0, :, 0, 0],
        torch.tensor([0.0, 0.5, 1.0], dtype=x.dtype),
    )


def test_the_mean_is_that_of_each_image_and_channel():
    fill = constant(color="mean")
    for i in range(2):
        for c in range(3):
            assert torch.allclose(fill[i, c], X[i, c].mean())


def test_zero_is_the_color_that_normalization_maps_to_0():
    assert not constant(color="zero").any()

    class Box:
        baseline_color = (0.485, 0.456, 0.406)

    assert Constant(color="zero").for_black_box(Box()) == Constant(color=(0.485, 0.456, 0.406))
    assert Constant(color="zero").for_black_box(PlantedEvidence()) == Constant(color="zero")
    assert Constant(color=0.5).for_black_box(Box()) == Constant(color=0.5)


def test_normalized_images_get_a_color_in_their_own_range():
    x = X * 4 - 1
    low, high = x[0].min(), x[0].max()
    assert torch.allclose(constant(x, color=1.0)[0], high)
    assert torch.allclose(constant(x, color=0.0)[0], low)
    assert not constant(x, color="zero").any()


def test_the_fill_may_be_written_to():
    for color in (0.5, "mean", "zero"):
        fill = constant(color=color)
        fill[0, 0, 0, 0] = 9.0  # an expanded tensor would change everywhere, or refuse
        assert (fill == 9.0).sum() == 1


def test_the_number_of_colors_fits_the_number_of_channels():
    assert constant(X[:, :1], color=(0.3,)).shape == (2, 1, 5, 4)
    with pytest.raises(InputError, match="has 3 channels and the images 1"):
        constant(X[:, :1], color=(0.1, 0.2, 0.3))


@pytest.mark.parametrize(
    "color", [1.5, -0.1, (), (0.5, 2.0), "red", None, (0.1, "x"), float("nan")]
)
def test_colors_out_of_range_are_refused(color):
    with pytest.raises(
        InputError, match=r"a color must be in \[0, 1\] per channel, or 'mean', or 'zero'"
    ):
        Constant(color=color)
