import numpy as np
import pytest
import torch
from hypothesis import given
from PIL import Image

from saliencykit.black_boxes.input_shape import read_input_shape
from saliencykit.black_boxes.input_spec import InputSpec, warn_unknown_normalization
from saliencykit.black_boxes.preprocessing import fit_image
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.testing.strategies import images

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@given(images())
def test_the_formula(photos):
    raw = photos.numpy()
    mean, std = (np.array(v).reshape(1, 3, 1, 1) for v in (MEAN, STD))
    got = InputSpec(mean=MEAN, std=STD, dtype="float64").arrays(photos)
    assert np.allclose(got, (raw - mean) / std, atol=1e-12)
    got = InputSpec(
        mean=tuple(255 * v for v in MEAN),
        std=tuple(255 * v for v in STD),
        max_pixel_value=255,
        dtype="float64",
        layout="NHWC",
    )
    assert np.allclose(got.arrays(photos).transpose(0, 3, 1, 2), (raw - mean) / std, atol=1e-12)
    assert np.array_equal(
        InputSpec(dtype="uint8").arrays(photos), np.rint(raw * 255).astype("uint8")
    )


def test_the_same_numbers_as_a_torch_black_box(black_box):
    seen = []

    class Watching(torch.nn.Module):
        def forward(self, x):
            seen.append(x)
            return x.mean((2, 3))

    photos = torch.rand(2, 3, 8, 8)
    TorchBlackBox(Watching(), mean=MEAN, std=STD)(photos)
    assert np.array_equal(InputSpec(mean=MEAN, std=STD).arrays(photos), seen[0].numpy())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8"])
def test_the_array_is_its_own_and_of_its_type(dtype):
    photos = torch.rand(2, 3, 4, 5)
    before = photos.clone()
    array = InputSpec(dtype=dtype, layout="NHWC").arrays(photos)
    assert array.dtype == dtype
    assert array.shape == (2, 4, 5, 3)
    assert array.flags.c_contiguous
    array[:] = 0
    assert torch.equal(photos, before)


def test_what_becomes_zero():
    assert InputSpec().baseline_color is None
    assert InputSpec(mean=MEAN, std=STD).baseline_color == MEAN
    assert InputSpec(mean=-0.5, std=0.5).baseline_color is None
    assert InputSpec(mean=127.5, std=127.5, max_pixel_value=255).baseline_color == (0.5, 0.5, 0.5)
    zero = torch.tensor(MEAN).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert np.abs(InputSpec(mean=MEAN, std=STD).arrays(zero)).max() < 1e-6


def test_images():
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8))
    got, geometry = InputSpec(size=(8, 12), fit="squash").prepare(photo)
    wanted, place = fit_image(photo, (8, 12), fit="squash")
    assert torch.equal(got, wanted)
    assert geometry == place
    with pytest.raises(InputError, match="write size=224"):
        InputSpec().prepare(photo)
    with pytest.raises(InputError, match="takes 5 channels"):
        InputSpec(channels=5, size=4).prepare(photo)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layout": "CHW"}, "takes 'NCHW' or 'NHWC'"),
        ({"dtype": "int8"}, "takes 'float16' or"),
        ({"fit": "stretch"}, "takes 'crop' or"),
        ({"interpolation": "x"}, "takes 'nearest' or"),
        ({"max_pixel_value": 0}, "max_pixel_value must be the value"),
        ({"max_pixel_value": "255"}, "max_pixel_value must be the value"),
        ({"mean": 0.5}, "given together"),
        ({"mean": (1, 2), "std": (1, 1)}, r"one number or one per channel \(3\)"),
        ({"mean": "x", "std": 1}, "one number or one per channel"),
        ({"mean": 0, "std": 0}, "std must be > 0"),
        (
            {"mean": (123.0, 116.0, 103.0), "std": (58.0, 57.0, 57.0)},
            "write max_pixel_value=255 too",
        ),
        ({"mean": 0, "std": 1, "dtype": "uint8"}, "takes pixels as uint8"),
        ({"size": 0}, "size must be a side"),
        ({"crop_pct": 0}, r"takes a number in \(0, 1\]"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(InputError, match=words):
        InputSpec(**options)


def test_images_of_another_form():
    with pytest.raises(
        InputError,
        match=r"takes \(channels, height, width\) \(3, 8, 8\); the images have \(3, 9, 8\)",
    ):
        InputSpec(size=8).arrays(torch.rand(1, 3, 9, 8))
    with pytest.raises(InputError, match=r"the images have \(1, 9, 8\)"):
        InputSpec().arrays(torch.rand(1, 1, 9, 8))


@pytest.mark.parametrize(
    ("shape", "layout", "wanted"),
    [
        (["N", 3, 224, 224], None, (None, "NCHW", 3, 224, 224)),
        ([8, 3, "h", "w"], None, (8, "NCHW", 3, None, None)),
        ([-1, 224, 200, 3], None, (None, "NHWC", 3, 224, 200)),
        ([1, None, None, None], None, (1, "NCHW", None, None, None)),
        ([1, None, None, None], "NHWC", (1, "NHWC", None, None, None)),
        ([1, 3, 3, 3], None, (1, "NCHW", 3, 3, 3)),
        ([1, 5, 7, 9], None, (1, "NCHW", 5, 7, 9)),
    ],
)
def test_declared_shapes(shape, layout, wanted):
    got = read_input_shape(shape, layout)
    assert (got.batch_size, got.layout, got.channels, got.height, got.width) == wanted


def test_declared_and_given_size():
    assert read_input_shape([1, 3, None, None]).size(24) == (24, 24)
    assert read_input_shape([1, 3, 20, 30]).size(None) == (20, 30)
    assert read_input_shape([1, 3, 20, None]).size((20, 7)) == (20, 7)
    assert read_input_shape([1, 3, None, 7]).size(None) is None
    with pytest.raises(InputError, match=r"size=24 was given and the model takes 20 x 30"):
        read_input_shape([1, 3, 20, 30]).size(24)


@pytest.mark.parametrize(
    ("shape", "layout", "words"),
    [([1, 64], None, "four axes"), ([1, 3, 4, 4], "HWC", "takes 'NCHW'")],
)
def test_declared_shapes_of_another_form(shape, layout, words):
    with pytest.raises(InputError, match=words):
        read_input_shape(shape, layout)


def test_pixels_that_nobody_said_anything_about():
    assert InputSpec().normalization_unknown
    assert not any(
        form.normalization_unknown
        for form in (
            InputSpec(mean=0.0, std=1.0),
            InputSpec(max_pixel_value=255.0),
            InputSpec(dtype="uint8"),
        )
    )
    with pytest.warns(UserWarning, match="model.onnx does not say how pixels are normalized"):
        warn_unknown_normalization("model.onnx")
