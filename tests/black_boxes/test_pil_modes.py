"""Images of every mode as 8-bit RGB or gray."""

import numpy as np
import pytest
from PIL import Image

from saliencykit.black_boxes.pil_modes import eight_bit
from saliencykit.core.errors import InputError

GRAY = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)


@pytest.mark.parametrize(
    "mode",
    [
        "1",
        "L",
        "LA",
        "P",
        "PA",
        "RGB",
        "RGBA",
        "RGBX",
        "CMYK",
        "YCbCr",
        "HSV",
        "LAB",
        "I",
        "F",
        "I;16",
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_eight_bit_and_is_not_changed(mode: str, channels: int) -> None:
    image = Image.new(mode, (6, 4))
    before = image.tobytes()
    flat = eight_bit(image, channels)
    assert (flat.mode, flat.size) == ("L" if channels == 1 else "RGB", (6, 4))
    assert image.tobytes() == before
    assert image.mode == mode


def test_transparent_pixels_are_laid_over_white() -> None:
    image = Image.new("RGBA", (3, 1), (200, 100, 0, 255))
    image.putpixel((1, 0), (200, 100, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 128))
    values = np.asarray(eight_bit(image))[0]
    assert values[0].tolist() == [200, 100, 0]
    assert values[1].tolist() == [255, 255, 255]
    assert abs(int(values[2][0]) - 127) <= 1
    gray = eight_bit(Image.new("LA", (1, 1), (0, 0)), 1)
    assert gray.getpixel((0, 0)) == 255


def test_a_palette_with_a_transparent_color() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert np.asarray(eight_bit(image)).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    image.info["transparency"] = 1
    assert np.asarray(eight_bit(image)).tolist() == [[[10, 20, 30], [255, 255, 255]]]


@pytest.mark.filterwarnings("ignore:an image of")
def test_sixteen_bits_and_floats_are_scaled_and_not_cut_off() -> None:
    sixteen = Image.fromarray(GRAY.astype(np.uint16) * 257)
    assert sixteen.mode.startswith("I;16")
    assert np.array_equal(np.asarray(eight_bit(sixteen, 1)), GRAY)
    for scale in (1.0, 1 / 255):
        assert np.array_equal(
            np.asarray(eight_bit(Image.fromarray(GRAY.astype(np.float32) * np.float32(scale)), 1)),
            GRAY,
        )
    for scale in (1, 257):
        assert np.array_equal(
            np.asarray(eight_bit(Image.fromarray(GRAY.astype(np.int32) * scale), 1)), GRAY
        )


@pytest.mark.parametrize("value", [-1.0, 300.0, float("nan")])
def test_floats_outside_any_known_range_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="values"):
        eight_bit(Image.fromarray(np.full((2, 2), value, np.float32)))


def test_other_channels_are_refused() -> None:
    with pytest.raises(InputError, match="takes 4"):
        eight_bit(Image.new("RGB", (2, 2)), 4)
