"""Whatever a user calls an image, and one clear error for everything that is none."""

import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from saliencykit import explain
from saliencykit.black_boxes.function import FunctionBlackBox
from saliencykit.black_boxes.pixel_range import with_pixel_range
from saliencykit.black_boxes.repeated import averaged
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import ContractError, InputError
from saliencykit.data.image_folder import read_folder
from saliencykit.data.images import as_images
from saliencykit.testing.black_boxes import PlantedEvidence

BOX = TorchBlackBox(nn.Flatten(), mean=(0.5,) * 3, std=(0.25,) * 3, size=8)
BARE = TorchBlackBox(nn.Flatten())
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Image.fromarray(PIXELS).save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


@pytest.mark.filterwarnings("ignore:an image of uint16")
def test_every_form_of_one_image_gives_the_same_image(path: Path) -> None:
    forms = [
        path,
        str(path),
        Image.fromarray(PIXELS),
        PIXELS,
        PIXELS[None],
        PIXELS.astype(np.float32) / 255,
        PIXELS.astype(np.float64) / 255,
        PIXELS.astype(np.uint16) * 257,
        torch.from_numpy(PIXELS).permute(2, 0, 1),
        torch.from_numpy(PIXELS).permute(2, 0, 1)[None],
        [path],
        (PIXELS,),
    ]
    wanted, place = BOX.prepare(Image.fromarray(PIXELS))
    for form in forms:
        batch = as_images(form, BOX)
        assert torch.equal(batch.images, wanted), type(form)
        assert batch.images.dtype == torch.float32
        assert batch.geometries == (place,)
        assert batch.inputs == "raw"
        assert batch.source_images[0].size == (16, 12)
    assert as_images(path, BOX).sources == (str(path),)
    assert as_images(Image.open(path), BOX).sources == (str(path),)


def test_a_mixed_list_keeps_its_order(path: Path) -> None:
    raw = torch.rand(2, 3, 8, 8)
    batch = as_images([path, raw, PIXELS, raw[0], np.stack([PIXELS, PIXELS])], BOX)
    assert len(batch) == 7
    assert torch.equal(batch.images[1:3], raw)
    assert torch.equal(batch.images[4], raw[0])
    assert [geometry is None for geometry in batch.geometries] == [
        False,
        True,
        True,
        False,
        True,
        False,
        False,
    ]
    assert batch.sources == (
        str(path),
        "image 1, row 0",
        "image 1, row 1",
        "image 2",
        "image 3",
        "image 4, row 0",
        "image 4, row 1",
    )


def test_gray_and_transparent_arrays() -> None:
    for array in (PIXELS[:, :, 0], PIXELS[:, :, :1]):
        batch = as_images(array, BOX)
        assert batch.images.shape == (1, 3, 8, 8)
        assert torch.equal(batch.images[:, 0], batch.images[:, 2])
    clear = np.zeros((9, 9, 4), np.uint8)
    assert as_images(clear, BOX).images.min() == 1  # over white


@pytest.mark.parametrize("channels", [2, 4, 5, 8, 12, 13])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "uint8 tensor"])
def test_arrays_of_any_number_of_channels_are_raw(channels: int, kind: str) -> None:
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    half = (0.5,) * channels
    black_box = TorchBlackBox(model, mean=half, std=half, size=9)
    values = np.random.default_rng(0).integers(0, 256, (9, 7, channels), dtype=np.uint8)
    values[0, 0] = 255
    wanted = torch.from_numpy(values / np.float32(255)).permute(2, 0, 1)[None]
    form = {
        "uint8": values,
        "uint16": values.astype(np.uint16) * 257,
        "float32": values / np.float32(255),
        "uint8 tensor": torch.from_numpy(values).permute(2, 0, 1),
    }[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batch = as_images(form, black_box, given_black_box=True)
    torch.testing.assert_close(batch.images, wanted)
    assert batch.inputs == "raw"
    assert batch.geometries[0].source_size == (9, 7)
    torch.testing.assert_close(black_box(batch.images), (wanted.mean((2, 3)) - 0.5) / 0.5)


def test_four_channels_are_transparency_unless_the_model_takes_four() -> None:
    clear = np.zeros((8, 8, 4), np.uint8)
    four = TorchBlackBox(nn.Flatten(), mean=(0.5,) * 4, std=(0.5,) * 4)
    assert as_images(clear, BOX).images.shape == (1, 3, 8, 8)
    assert as_images(clear, BOX).images.min() == 1
    assert as_images(clear, four).images.shape == (1, 4, 8, 8)
    assert as_images(clear, four).images.max() == 0
    with pytest.raises(InputError, match=r"an array of 5 channels.*torch.from_numpy\(x\)"):
        as_images(np.zeros((8, 8, 5), np.uint8), BARE, given_black_box=False)


def test_black_and_white_arrays_are_black_and_white() -> None:
    half = np.zeros((8, 8), bool)
    half[:, 4:] = True
    image = as_images(half, BOX).images
    assert image[0, 0, :, :4].max() == 0
    assert image[0, 0, :, 4:].min() == 1


@pytest.mark.parametrize(
    ("bits", "suffix", "declared"),
    [(12, "png", True), (12, "png", False), (12, "tif", True), (16, "tif", True), (8, "tif", True)],
)
def test_deep_files_are_scaled_by_what_they_say_or_with_a_warning(
    tmp_path: Path, bits: int, suffix: str, declared: bool
) -> None:
    gray = (np.arange(64).reshape(8, 8) * (2**bits - 1) // 63).astype(np.uint16)
    file = tmp_path / f"x-ray.{suffix}"
    options = {"tiffinfo": {281: 2**bits - 1}} if suffix == "tif" and declared else {}
    Image.fromarray(gray).save(file, **options)
    if suffix == "png" and declared:  # the chunk of significant bits, after the 33 bytes of IHDR
        data, chunk = file.read_bytes(), b"sBIT" + bytes([bits])
        crc = struct.pack(">I", zlib.crc32(chunk))
        file.write_bytes(data[:33] + struct.pack(">I", 1) + chunk + crc + data[33:])
    wanted = torch.from_numpy(np.rint(gray / (2**bits - 1) * 255) / np.float32(255)).float()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        image = as_images(file, BOX).images
        opened = as_images(Image.open(file), BOX).images
        explicit = as_images(gray / (2**bits - 1), BOX).images
    assert torch.equal(image, opened)
    torch.testing.assert_close(image[0, 1], wanted)
    assert torch.equal(explicit, image)
    said = [str(each.message) for each in caught]
    assert bool(said) is not declared
    assert all("4095 is assumed" in words and "pixel_range=(0, 4095)" in words for words in said)


def deep_images(folder: Path) -> "dict[str, tuple[object, np.ndarray]]":
    """Forms of gray images of more than 8 bits, with the values that they hold."""
    rows = np.arange(64).reshape(8, 8)
    forms: dict[str, tuple[object, np.ndarray]] = {
        "int16": ((rows * 90 - 2000).astype(np.int16),) * 2,
        "uint16": ((rows * 60).astype(np.uint16),) * 2,
        "int64": (rows * 500 - 9,) * 2,
        "float": (rows * 31.5 - 100,) * 2,
        "tensor": (torch.from_numpy(rows * 70.0)[None], rows * 70.0),
        "tensor of int32": (torch.from_numpy(rows * 70).int()[None], rows * 70),
    }
    files = {"12.png": (rows * 64).astype(np.uint16), "f.tif": (rows * 63.0).astype(np.float32)}
    files["declared.tif"] = (rows * 64).astype(np.uint16)
    for name, values in files.items():
        options = {"tiffinfo": {281: 4032}} if name == "declared.tif" else {}
        Image.fromarray(values).save(folder / name, **options)
        forms[name] = (folder / name, values)
        forms[f"opened {name}"] = (Image.open(folder / name), values)
    return forms


@pytest.mark.parametrize("pixel_range", [(0, 4095), (-1000, 400)])
def test_an_explicit_range_scales_every_form_of_deep_image_without_a_guess(
    tmp_path: Path, pixel_range: tuple[float, float]
) -> None:
    gray = TorchBlackBox(nn.Flatten(), mean=(0.5,), std=(0.5,), size=8, pixel_range=pixel_range)
    black, white = pixel_range
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for form, (image, values) in deep_images(tmp_path).items():
            wanted = ((values.astype(np.float64) - black) / (white - black)).clip(0, 1)
            read = as_images(image, gray)
            np.testing.assert_allclose(read.images[0, 0], wanted, atol=0.5 / 255, err_msg=form)
            if read.source_images[0] is not None:  # drawn as it was explained
                drawn = np.asarray(read.source_images[0].convert("L")) / 255
                np.testing.assert_allclose(drawn, wanted, atol=0.51 / 255, err_msg=form)
    bands = np.arange(13 * 64).reshape(8, 8, 13).astype(np.uint16)
    thirteen = with_pixel_range(TorchBlackBox(nn.Flatten(), mean=[0.5] * 13, std=[1] * 13), (0, 99))
    assert float(as_images(bands, thirteen).images[0, 12, 0, 7]) == 1
    eight_bits = [PIXELS, Image.fromarray(PIXELS)]  # are not concerned
    for image in eight_bits:
        assert torch.equal(
            as_images(image, BOX).images, as_images(image, with_pixel_range(BOX, (0, 9))).images
        )


@pytest.mark.parametrize(
    ("pixel_range", "image", "words"),
    [
        ((5, 5), PIXELS, r"black < white; write pixel_range=\(0, 4095\)"),
        ("12 bits", PIXELS, "black < white"),
        ((0, float("inf")), PIXELS, "black < white"),
        ((0, 9), torch.rand(3, 8, 8), "a tensor that model"),
        ((0, 9), np.full((8, 8), np.nan), "NaN"),
        ((0, 9), np.full((8, 8), "a"), "expected uint8"),
    ],
)
def test_a_range_that_cannot_be_used_is_refused(
    pixel_range: object, image: object, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        explain(nn.Flatten(), image, pixel_range=pixel_range)  # type: ignore[arg-type]


def test_a_range_for_a_file_that_pillow_has_scaled_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pgm").write_bytes(b"P5 8 8 4095\n" + bytes(128))
    with pytest.raises(InputError, match="declares its own white"):
        as_images(tmp_path / "x.pgm", with_pixel_range(BOX, (0, 4095)))


def test_a_wrapped_function_still_takes_raw_tensors() -> None:
    black_box = FunctionBlackBox(lambda x: x.mean((1, 2)), probabilities=False, size=8)
    wrapped = averaged(black_box, 2)
    assert as_images(torch.rand(3, 8, 8), wrapped).inputs == "raw"


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.rand(2, 1, 16, 8, 8), r"nn.Unflatten\(1, \(1, 16\)\), model\), x.flatten\(1, 2\)"),
        (torch.rand(1, 4, 3, 8, 8), r"nn.Unflatten\(1, \(4, 3\)\)"),
        (np.zeros((1, 4, 3, 8, 8)), r"nn.Unflatten\(1, \(4, 3\)\).*torch.from_numpy\(array\)"),
        (np.full((8, 8), 2000, np.int32), r"write x / 4095, the value of white"),
        (np.full((8, 8), -1000, np.int16), r"pixel_range=\(-1000, -999\)"),
        (np.full((8, 8), 7, np.int64), r"write x.astype\('uint8'\)"),
        (np.full((8, 8), 1, np.int64), r"write x.astype\(float\)"),
        (np.full((8, 8), 3000.0), r"write x / 4095"),
        (torch.full((1, 8, 8), 3000), r"write x / 4095"),
        (torch.ones(1, 8, 8, dtype=torch.int32), r"write x.float\(\)"),
    ],
)
def test_the_advice_for_other_numbers_and_shapes_does_not_mislead(
    image: object, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        as_images(image, BOX, given_black_box=True)


def test_a_narrow_image_of_many_channels_is_not_taken_for_channels_last() -> None:
    """60 x 1 pixels of eleven channels: a recording, of pytorch-grad-cam's issue 452."""
    narrow, model = torch.rand(2, 11, 60, 1), nn.Sequential(nn.Conv2d(11, 4, (3, 1)), nn.Flatten())
    assert as_images(narrow, TorchBlackBox(model), given_black_box=False).images.shape == (
        2,
        11,
        60,
        1,
    )
    with pytest.raises(InputError, match=r"channels last.*x.permute\(0, 3, 1, 2\)"):
        as_images(narrow, BOX, given_black_box=False)


@pytest.mark.parametrize("channels", [1, 3, 4, 15, 16])
@pytest.mark.parametrize(
    "shape", [(3, 224, 3), (16, 16, 15), (2, 16, 16, 15), (15, 9, 16), (3, 9, 4), (1, 9, 1), (9, 9)]
)
def test_arrays_that_can_be_read_both_ways_are_warned_about(
    shape: tuple[int, ...], channels: int
) -> None:
    """Channels last is right, or refused; where channels first would be too, that is said."""
    half, values = (0.5,) * channels, np.zeros(shape, np.uint8)
    black_box = TorchBlackBox(nn.Flatten(), mean=half, std=half, size=9)
    last, first = shape[-1] if len(shape) > 2 else 1, shape[-3] if len(shape) > 2 else 0
    fits = last == channels or (channels in (1, 3) and last in (1, 3, 4))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if fits and not (len(shape) == 4 and last > 4):
            read = as_images(values, black_box).images
            assert read.shape[1] == channels
        elif not fits:
            with pytest.raises(InputError, match="channels"):
                as_images(values, black_box)
        if not fits and first == channels:
            with pytest.raises(InputError, match=r"must be last; write x.transpose\("):
                as_images(values, black_box)
    said = [str(each.message) for each in caught]
    assert bool(said) == (fits and first == channels), said
    assert all("write x.transpose(" in line for line in said)


@pytest.mark.parametrize(
    "form",
    [
        torch.zeros(1, 3, 8, 8).to_sparse(),
        torch.zeros(1, 3, 8, 8, dtype=torch.complex64),
        torch.zeros(1, 3, 8, 8, device="meta"),
        FakeTensorMode().from_tensor(torch.zeros(1, 3, 8, 8)),
        np.ma.masked_array(np.zeros((8, 8, 3), np.uint8), np.eye(8)[..., None] * [1, 1, 1]),
    ],
)
def test_tensors_and_arrays_without_plain_values_are_refused(form: object) -> None:
    for black_box in (BOX, BARE):
        with pytest.raises(InputError, match=r"write x\."):
            as_images(form, black_box)


@pytest.mark.parametrize("transform", [torch.vmap, torch.func.grad, torch.func.functionalize])
@pytest.mark.parametrize("inside", [False, True])
def test_nothing_is_explained_inside_of_a_transform(transform: Any, inside: bool) -> None:
    plain = torch.rand(1, 3, 8, 8)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))

    def answer(given: torch.Tensor) -> torch.Tensor:
        image = given if inside else plain
        return explain(net, image.view(1, 3, 8, 8), 1, masker="rise:samples=2").mask

    with pytest.raises(InputError, match=r"inside of a transform of torch\.func"):
        transform(answer)(plain)


def test_a_volume_is_explained_with_its_slices_as_channels() -> None:
    volume = torch.rand(1, 2, 5, 12, 12)
    net = nn.Sequential(nn.Conv3d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    as_channels = nn.Sequential(nn.Unflatten(1, (2, 5)), net)
    answer = explain(as_channels, volume.flatten(1, 2), masker="occlusion")
    assert answer.mask.shape == (1, 1, 12, 12)
    torch.testing.assert_close(answer.logits, net(volume).detach())


def test_tensors_are_what_the_model_takes_unless_somebody_knows_better() -> None:
    x = torch.randn(2, 3, 8, 8) * 3
    assert as_images(x, BOX, given_black_box=False).inputs == "normalized"
    assert as_images(x, BARE, given_black_box=True).inputs == "normalized"
    assert as_images(x.clamp(0, 1), BOX, given_black_box=True).inputs == "raw"
    assert as_images(x.clamp(0, 1), BARE, inputs="raw").inputs == "raw"
    assert as_images(x, BOX, inputs="normalized").inputs == "normalized"
    assert torch.equal(as_images(x, BARE).images, x)
    function = FunctionBlackBox(lambda p: p.mean((1, 2)))
    for given in (True, False):  # neither a function nor somebody's box has a space of its own
        assert as_images(x.clamp(0, 1), function, given_black_box=given).inputs == "raw"
        assert as_images(x.clamp(0, 1), PlantedEvidence(), given_black_box=given).inputs == "raw"
    with pytest.raises(InputError, match="raw pixels must be in"):
        as_images(x, function, given_black_box=False)


def test_tensors_are_copied_to_float_on_the_cpu() -> None:
    x = torch.rand(3, 8, 8, requires_grad=True)
    batch = as_images(x, BARE)
    assert not batch.images.requires_grad
    batch.images.zero_()
    assert x.detach().sum() > 0
    assert as_images(x.double(), BARE).images.dtype == torch.float64
    assert as_images(x.half(), BARE).images.dtype == torch.float32
    assert as_images(x.bfloat16(), BARE).images.dtype == torch.float32
    with torch.inference_mode():
        batch = as_images(torch.rand(3, 8, 8), BARE)
    assert not batch.images.is_inference()
    # five bands are the model's business
    assert as_images(torch.rand(5, 8, 8), BARE).images.shape == (
        1,
        5,
        8,
        8,
    )


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    Image.fromarray(PIXELS).save(tmp_path / "turned.png", exif=exif)
    batch = as_images(tmp_path / "turned.png", BOX)
    assert batch.source_images[0].size == (12, 16)
    assert batch.geometries[0].source_size == (16, 12)
    assert np.array_equal(np.asarray(batch.source_images[0]), np.rot90(PIXELS, -1))
    assert as_images(Image.open(tmp_path / "turned.png"), BOX).source_images[0].size == (12, 16)


def test_the_first_frame_of_an_animation_with_a_warning(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (10, 10), color) for color in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match=r"moving.gif.* has 3 frames; the first one"):
        batch = as_images(tmp_path / "moving.gif", BOX)
    assert batch.images[0, :, 4, 4].tolist() == [1, 0, 0]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
def test_files_of_every_mode(tmp_path: Path, mode: str, suffix: str) -> None:
    file = tmp_path / f"image{suffix}"
    try:
        Image.new(mode, (20, 10)).save(file)
    except (OSError, ValueError):
        pytest.skip("this format does not have this mode")
    assert as_images(file, BOX).images.shape == (1, 3, 8, 8)


def bomb() -> bytes:
    """A PNG of a few bytes that says that it has 30000 x 30000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"0"))
        + chunk(b"IEND", b"")
    )


def test_files_that_cannot_be_used_are_named(tmp_path: Path, path: Path) -> None:
    whole = path.read_bytes()
    jpeg = tmp_path / "whole.jpg"
    Image.fromarray(np.tile(PIXELS, (20, 20, 1))).save(jpeg)
    contents = {
        "empty.png": (b"", "empty"),
        "text.jpg": (b"no image at all", "not an image"),
        "half.png": (whole[: len(whole) // 2], "truncated or damaged"),
        "half.jpg": (jpeg.read_bytes()[:3000], "truncated or damaged"),
        "bomb.png": (bomb(), "too large"),
        "spoiled.png": (whole[:60] + b"\x00" * 20 + whole[80:], "damaged"),
    }
    for name, (content, words) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}.*{words}"):
            as_images([path, tmp_path / name], BOX)
    with pytest.raises(InputError, match=r"no file .*missing.png"):
        as_images(tmp_path / "missing.png", BOX)
    with pytest.raises(InputError, match=r"is a folder; .*read_folder"):
        as_images(tmp_path, BOX)
    with pytest.raises(InputError, match="download"):
        as_images("https://example.org/cat.jpg", BOX)


def test_a_truncated_image_that_was_opened_by_the_caller(tmp_path: Path) -> None:
    Image.fromarray(np.tile(PIXELS, (20, 20, 1))).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:3000])
    truncated = pytest.raises(InputError, match=r"a.jpg.*truncated")
    with Image.open(tmp_path / "a.jpg") as image, truncated:
        as_images(image, BOX)


NAN = torch.rand(4, 3, 8, 8)
NAN[2, 0, 0, 0] = float("nan")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ([], "empty list"),
        (3, "the image is a int"),
        (None, "NoneType"),
        (b"bytes", "the image is not an image that Pillow can read"),
        (b"", "the image is empty"),
        ([PIXELS, b"cat"], "image 1 is not an image"),
        (bytearray(b"cat"), "the image is a bytearray; an image is a path, the bytes"),
        ([[1, 2], [3, 4]], "image 0 is a list"),
        (torch.rand(8, 8), r"x\[None\]"),
        (torch.rand(2, 1, 3, 8, 8), r"\(2, 1, 3, 8, 8\)"),
        (torch.rand(0, 3, 8, 8), "empty side"),
        (torch.rand(8, 8, 3), r"x.permute\(2, 0, 1\)"),
        (torch.rand(2, 8, 8, 3), r"x.permute\(0, 3, 1, 2\)"),
        (torch.zeros(3, 8, 8).long(), r"int64.*uint8"),
        (torch.zeros(3, 8, 8).bool(), r"torch.bool"),
        (torch.zeros(5, 8, 8, dtype=torch.uint8), "has 5 channels, and the model takes 3"),
        (NAN, "image 2 holds NaN"),
        ([PIXELS, NAN], "image 1, row 2 holds NaN"),
        (torch.rand(2, 3, 8, 8) * 255, r"the image|image 0.*x / 255"),
        (torch.rand(2, 3, 8, 8) * 4 - 2, "inputs='normalized'"),
        (torch.rand(2, 3, 8, 8) * 1.05, r"x.clip\(0, 1\)"),
        ([torch.rand(3, 8, 8), torch.rand(3, 8, 9)], r"image 1 has .*\(3, 8, 9\).* resize"),
        ([PIXELS, torch.rand(3, 9, 9)], r"image 1 has .*\(3, 9, 9\)"),
        (np.zeros((3, 8, 8), np.uint8), r"x.transpose\(1, 2, 0\)"),
        (np.zeros((2, 3, 8, 8), np.float32), r"x.transpose\(0, 2, 3, 1\)"),
        (np.zeros((8, 8, 2), np.uint8), "has 2 channels, and the model takes 3"),
        (np.zeros((0, 8, 3), np.uint8), r"\(0, 8, 3\)"),
        (np.zeros(7, np.uint8), r"\(7,\)"),
        (np.zeros((8, 8, 3), np.int64), "x.astype"),
        (np.array([[["a"] * 3] * 4] * 4), "array of <U1"),
        (PIXELS.astype(np.float32), r"x / 255"),
        (np.stack([PIXELS / 255, PIXELS / 64]), "image 1 has values"),
        (np.full((8, 8, 3), np.nan), "NaN"),
        (Image.fromarray(np.full((4, 4), -1.0, np.float32)), "float32 has values from -1"),
    ],
)
def test_everything_else_is_refused_in_one_line(image: object, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        as_images(image, BOX)
    assert "\n" not in str(caught.value)


def test_images_and_model_pixels_do_not_mix(path: Path) -> None:
    with pytest.raises(InputError, match="inputs='normalized' is for tensors"):
        as_images(path, BOX, inputs="normalized")
    with pytest.raises(InputError, match="explain them apart"):
        as_images([path, torch.rand(3, 8, 8)], BOX, given_black_box=False)
    with pytest.raises(InputError, match="'auto' or 'raw' or 'normalized'"):
        as_images(path, BOX, inputs="normal")


def test_a_box_that_cannot_prepare_names_the_image(path: Path) -> None:
    with pytest.raises(
        InputError, match=r"cat.png.*Flatten are unknown, .* Write explain\(TorchBlackBox"
    ):
        as_images(path, BARE)
    with pytest.raises(InputError, match=r"cat.png.*PlantedEvidence does not say how"):
        as_images(path, PlantedEvidence())

    class Wrong(PlantedEvidence):
        def prepare(self, image: Image.Image):
            return torch.full((1, 3, 4, 4), float("nan")), None

    with pytest.raises(ContractError, match=r"Wrong.prepare"):
        as_images(path, Wrong())


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "deep/c.webp"):
        (tmp_path / name).write_bytes(b"1")
    assert [found.name for found in read_folder(tmp_path)] == ["a.JPG", "b.png"]
    assert [found.name for found in read_folder(tmp_path, recursive=True)] == [
        "a.JPG",
        "b.png",
        "c.webp",
    ]
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no images"):
        read_folder(tmp_path / "none")
    with pytest.raises(InputError, match="not a folder"):
        read_folder(tmp_path / "a.JPG")
