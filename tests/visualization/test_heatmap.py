"""Heat maps: colors, the color bar, and sizes."""

import numpy as np
import pytest

from saliencykit.visualization import draw_heatmap, draw_overlay
from saliencykit.visualization.heatmap import colors


def test_colors_are_infernos() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    values = np.linspace(0, 1, 200).reshape(20, 10)
    theirs = matplotlib.colormaps["inferno"](values)[..., :3]
    assert np.abs(colors(values) - theirs).max() < 0.08


def test_the_map_is_beside_a_bar_that_shows_each_value_as_the_map_does() -> None:
    height, width = 300, 200
    mask = np.repeat(np.linspace(1, 0, height, dtype=np.float32)[:, None], width, 1)
    drawn = draw_heatmap(np.full((height, width, 3), 0.5, np.float32), mask)
    assert drawn.height == height
    assert drawn.width > width
    pixels = np.asarray(drawn).astype(int)
    bar = pixels[:, width + 12]
    inside = np.flatnonzero((bar < 250).any(1))
    for fraction in (0.1, 0.5, 0.9):
        there = bar[inside[int(fraction * (len(inside) - 1))]]
        assert np.abs(there - pixels[int(fraction * (height - 1)), 0]).max() < 4


def test_the_image_shows_through_in_gray_where_the_mask_is_equal() -> None:
    image = np.zeros((64, 64, 3), np.float32)
    image[:32] = [1.0, 0.5, 0.0]
    pixels = np.asarray(draw_overlay(image, np.zeros((64, 64)), style="heatmap")).astype(int)
    assert pixels[10, 10].min() > 40 > pixels[50, 10].max()


@pytest.mark.parametrize("size", [(8, 8), (20, 600), (1600, 30)])
def test_small_and_long_images_can_be_drawn(size: tuple[int, int]) -> None:
    drawn = draw_heatmap(np.zeros((*size, 3)), np.zeros(size))
    assert drawn.height == size[0]
    assert drawn.width > size[1]
