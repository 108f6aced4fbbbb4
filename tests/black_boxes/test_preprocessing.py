"""One image to a model's input: equal to torchvision's and timm's own transforms, with exact
geometry.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms._presets import ImageClassification
from torchvision.transforms.functional import InterpolationMode

from saliencykit.black_boxes.preprocessing import fit_image
from saliencykit.core.errors import InputError

SHAPES = [(300, 200), (201, 333), (97, 97), (40, 500), (640, 37), (224, 224), (255, 256)]
ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def image(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width + height).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )
    return Image.fromarray(values)


@pytest.mark.parametrize(
    ("crop", "resize"), [(224, 256), (224, 232), (299, 342), (240, 255), (224, 224), (64, 73)]
)
def test_crop_equals_torchvision_to_the_bit(crop: int, resize: int) -> None:
    interpolation = "bilinear" if resize % 2 else "bicubic"
    transform = ImageClassification(
        crop_size=crop,
        resize_size=resize,
        mean=ZERO,
        std=ONE,
        interpolation=InterpolationMode(interpolation),
    )
    for width, height in SHAPES:
        photo = image(width, height)
        ours, _ = fit_image(
            photo, (crop, crop), crop_pct=crop / resize, interpolation=interpolation
        )
        assert torch.equal(ours[0], transform(photo)), (width, height)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize(
    ("share", "size"),
    [(0.875, (224, 224)), (0.95, (224, 224)), (0.9, (128, 256)), (1.0, (160, 96))],
)
def test_every_fit_equals_timm_to_the_bit(mode: str, share: float, size: tuple[int, int]) -> None:
    timm_data = pytest.importorskip("timm.data")
    # older versions crop to other sizes than squares after a bilinear resize, whatever they get
    interpolation = "bicubic" if size[0] == size[1] or mode != "center" else "bilinear"
    mean = (0.5, 0.25, 0.75)
    transform = timm_data.create_transform(
        input_size=(3, *size),
        crop_pct=share,
        crop_mode=mode,
        interpolation=interpolation,
        mean=mean,
        std=ONE,
        normalize=False,
    )
    fit = {"center": "crop", "squash": "squash", "border": "pad"}[mode]
    for width, height in SHAPES[:5]:
        photo = image(width, height)
        ours, _ = fit_image(
            photo, size, fit=fit, crop_pct=share, interpolation=interpolation, fill=mean
        )
        assert torch.equal(ours[0], transform(photo).float() / 255), (width, height)


def test_a_share_gives_back_the_whole_number_that_it_was_made_from() -> None:
    for resize in range(1, 700):
        for crop in {1, resize // 3 + 1, resize - 1 or 1, resize}:
            assert math.floor(crop / (crop / resize) + 1e-6) == resize


@given(
    st.integers(5, 60),
    st.integers(5, 60),
    st.integers(4, 24),
    st.integers(4, 24),
    st.sampled_from(["crop", "squash", "pad"]),
    st.floats(0.5, 1.0),
)
def test_geometry_says_where_the_input_lies(
    width: int, height: int, tall: int, wide: int, fit: str, share: float
) -> None:
    # an image whose color is its position: the input's middle must show the color of the
    # region's middle
    across = np.broadcast_to(np.linspace(0, 255, width)[None, :], (height, width))
    down = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width))
    values = np.stack([across, down, np.zeros((height, width))], -1).round().astype(np.uint8)
    images, geometry = fit_image(Image.fromarray(values), (tall, wide), fit=fit, crop_pct=share)
    assert images.shape == (1, 3, tall, wide)
    assert geometry.source_size == (height, width)
    assert geometry.size == (tall, wide)
    x0, y0, x1, y1 = geometry.region
    assert x0 < x1
    assert y0 < y1
    if fit != "pad":
        assert x0 >= -1e-9
        assert y0 >= -1e-9
        assert x1 <= width + 1e-9
        assert y1 <= height + 1e-9
    for row in range(tall):
        x = x0 + (wide // 2 + 0.5) * (x1 - x0) / wide - 0.5
        y = y0 + (row + 0.5) * (y1 - y0) / tall - 0.5
        # a resized pixel is a mean over so many
        steps = [
            max(1.0, (x1 - x0) / wide),
            max(1.0, (y1 - y0) / tall),
        ]
        if steps[0] <= x <= width - 1 - steps[0] and steps[1] <= y <= height - 1 - steps[1]:
            got = images[0, :2, row, wide // 2] * 255
            assert abs(float(got[0]) - 255 * x / (width - 1)) <= 255 / (width - 1) * steps[0] + 1.5
            assert (
                abs(float(got[1]) - 255 * y / (height - 1)) <= 255 / (height - 1) * steps[1] + 1.5
            )


def test_maps_go_back_to_where_they_were() -> None:
    values = np.zeros((100, 200, 3), np.uint8)
    values[30:60, 90:130] = 255
    images, geometry = fit_image(Image.fromarray(values), (50, 50))
    back = geometry.to_source(images[:, :1])
    inside, outside = back[0, 0, 32:58, 92:128], back[0, 0, :26]
    assert inside.min() > 0.9
    assert outside.max() < 0.05


def test_gray_and_padding() -> None:
    gray, _ = fit_image(image(30, 20), (8, 8), channels=1)
    assert gray.shape == (1, 1, 8, 8)
    padded, geometry = fit_image(Image.new("RGB", (40, 20), (255, 0, 0)), (8, 8), fit="pad")
    assert padded[0, :, 0, 0].tolist() == pytest.approx([128 / 255] * 3)
    assert padded[0, :, 4, 4].tolist() == [1, 0, 0]
    assert geometry.region == (0.0, -10.0, 40.0, 30.0)


def test_a_strip_does_not_need_the_memory_of_what_is_cut_off() -> None:
    images, geometry = fit_image(
        Image.new("RGB", (60000, 8), (10, 20, 30)), (224, 224), crop_pct=0.875
    )
    assert images.shape == (1, 3, 224, 224)
    assert geometry.region[2] - geometry.region[0] == pytest.approx(7.0, abs=0.1)


@pytest.mark.parametrize(
    "option", [{"fit": "stretch"}, {"interpolation": "spline"}, {"channels": 5}]
)
def test_unknown_options(option: dict[str, object]) -> None:
    with pytest.raises(InputError):
        fit_image(image(10, 10), (8, 8), **option)
