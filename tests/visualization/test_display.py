"""Images and masks at the size of a screen."""

import numpy as np
import torch
from PIL import Image

from saliencykit.core.geometry import Geometry
from saliencykit.visualization.display import display_arrays, display_size, to_pil


def test_small_images_are_enlarged_and_large_ones_reduced() -> None:
    assert display_size((40, 60)) == (320, 480)
    assert display_size((1000, 4000)) == (400, 1600)
    assert display_size((10, 1000)) == (16, 1600), "the long side has the last word"
    assert display_size((480, 640)) == (480, 640)


def test_gray_and_normalized_images_are_shown_over_their_own_range() -> None:
    images = torch.linspace(-3, 5, 40 * 60).view(1, 1, 40, 60)
    image, mask = display_arrays(images, torch.ones(1, 1, 40, 60))
    assert image.shape == (320, 480, 3)
    assert mask.shape == (320, 480)
    assert 0 <= image.min() < 0.02
    assert 0.98 < image.max() <= 1


def test_a_mask_lies_where_its_geometry_says() -> None:
    geometry = Geometry(source_size=(400, 800), region=(200.0, 0.0, 600.0, 400.0), size=(8, 8))
    image, mask = display_arrays(Image.new("L", (800, 400)), torch.ones(1, 1, 8, 8), geometry)
    assert image.shape == (400, 800, 3)
    assert mask[:, 250:550].min() > 0.99
    assert mask[:, :150].max() == 0
    _, whole = display_arrays(Image.new("L", (800, 400)), torch.ones(1, 1, 8, 8))
    assert whole.min() > 0.99


def test_tensors_become_gray_or_rgb_images() -> None:
    assert to_pil(torch.rand(1, 1, 4, 6)).mode == "L"
    assert to_pil(torch.rand(1, 3, 4, 6)).size == (6, 4)
    assert np.asarray(to_pil(torch.full((1, 5, 2, 2), 0.5))).tolist() == [[128, 128]] * 2
