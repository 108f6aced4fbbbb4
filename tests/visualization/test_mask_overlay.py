"""Overlays and outlines, from arrays."""

import numpy as np
import pytest

from saliencykit.core import InputError
from saliencykit.visualization import CONTOUR_COLOR, draw_overlay, outline


def half_mask(height: int = 40, width: int = 60) -> np.ndarray:
    mask = np.zeros((height, width), np.float32)
    mask[:, : width // 2] = 1
    return mask


def test_the_kept_half_keeps_its_color_and_the_rest_is_dark_and_gray() -> None:
    image = np.broadcast_to(np.array([0.8, 0.4, 0.6], np.float32), (40, 60, 3))
    pixels = np.asarray(draw_overlay(image, half_mask())).astype(int)
    assert pixels.shape == (40, 60, 3)
    assert np.abs(pixels[:, :20] - [204, 102, 153]).max() <= 1
    assert pixels[:, 40:].mean() < 0.4 * pixels[:, :20].mean()
    assert np.ptp(pixels[0, -1]) < 0.2 * np.ptp(pixels[0, 0])
    assert (pixels[20] == CONTOUR_COLOR).all(1).any()
    green = np.asarray(draw_overlay(image, half_mask(), color=(0, 255, 0)))
    assert (green[20] == (0, 255, 0)).all(1).any()


def test_what_the_mask_keeps_is_shown_on_plain_gray() -> None:
    image = np.broadcast_to(np.array([0.8, 0.4, 0.6], np.float32), (40, 60, 3))
    pixels = np.asarray(draw_overlay(image, half_mask(), style="kept"))
    assert (pixels[:, :30] == [204, 102, 153]).all()
    assert (pixels[:, 30:] == 128).all()


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(InputError, match="takes 'outline' or 'heatmap' or 'kept'"):
        draw_overlay(np.zeros((4, 4, 3)), np.zeros((4, 4)), style="jet")


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_empty_and_a_full_mask_have_no_outline(value: float) -> None:
    assert not outline(np.full((40, 60), value, np.float32)).any()


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_the_outline_is_where_the_mask_passes_half_of_its_largest_value(dtype: type) -> None:
    mask = np.zeros((40, 60), dtype)
    mask[10:30, 20:40] = 100
    mask[12:28, 22:38] = 49 if dtype is np.uint8 else 49.9
    line = outline(mask)
    assert line[10, 25]
    assert line[9, 25]
    assert line[12, 25], "the inner edge"
    assert not line[20, 30]
    assert not line[0].any()
    assert not outline(mask, faint=101).any(), "a faint mask has none"


def test_the_outline_is_as_wide_as_scikit_images_boundary_dilated() -> None:
    from scipy.ndimage import binary_dilation
    from skimage.segmentation import find_boundaries

    mask = np.random.default_rng(0).random((12, 20)).repeat(40, 0).repeat(40, 1)
    boundary = find_boundaries(mask >= 0.5 * mask.max(), mode="thick")
    expected = binary_dilation(boundary, np.ones((3, 3)), iterations=round(480 / 160) - 1)
    assert np.array_equal(outline(mask), expected)
