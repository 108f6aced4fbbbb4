"""FunctionBlackBox: any function on numpy arrays."""

import numpy as np
import pytest
import torch
from PIL import Image

from saliencykit.black_boxes.function import FunctionBlackBox
from saliencykit.core.errors import ContractError, InputError, SaliencyKitError


def colors(photos: np.ndarray) -> np.ndarray:
    """Probability of red, green and blue."""
    means = photos.mean((1, 2)) + 1e-3
    return means / means.sum(1, keepdims=True)


def images() -> torch.Tensor:
    return torch.rand(5, 3, 6, 7, generator=torch.Generator().manual_seed(0))


def test_probabilities_and_logits() -> None:
    black_box = FunctionBlackBox(colors)
    wanted = torch.from_numpy(colors(images().permute(0, 2, 3, 1).numpy()))
    assert torch.allclose(black_box(images()).softmax(1), wanted, atol=1e-6)
    assert black_box(images()).dtype == torch.float32
    raw = FunctionBlackBox(lambda p: colors(p) * 7 - 3, probabilities=False)
    assert torch.allclose(raw(images()), wanted * 7 - 3, atol=1e-5)
    assert not black_box.differentiable
    assert not black_box(images().requires_grad_()).requires_grad


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_the_function_gets_channels_last_arrays_of_its_own(dtype: str) -> None:
    seen: list[np.ndarray] = []

    def spoil(photos: np.ndarray) -> np.ndarray:
        seen.append(photos.copy())
        photos[:] = 0
        return np.full((len(photos), 2), 0.5)

    x = images()
    before = x.clone()
    FunctionBlackBox(spoil, dtype=dtype, max_batch_size=2)(x)
    assert torch.equal(x, before)
    assert [p.shape for p in seen] == [(2, 6, 7, 3), (2, 6, 7, 3), (1, 6, 7, 3)]
    assert all(p.dtype == dtype and p.flags.c_contiguous for p in seen)
    white = 1 if dtype == "float32" else 255
    assert np.allclose(
        np.concatenate(seen),
        before.permute(0, 2, 3, 1).numpy() * white,
        atol=1e-6 if white == 1 else 0.5001,
    )


@pytest.mark.parametrize(
    "form", [list, torch.from_numpy, lambda a: a.tolist(), lambda a: a.astype(np.float16)]
)
def test_answers_of_every_form(form) -> None:
    assert FunctionBlackBox(lambda p: form(colors(p)))(images()).shape == (5, 3)


def test_one_column_is_a_sigmoid() -> None:
    black_box = FunctionBlackBox(lambda p: p.mean((1, 2, 3)))
    assert torch.allclose(black_box(images()).softmax(1)[:, 1], images().mean((1, 2, 3)), atol=1e-6)
    assert black_box.num_classes == 2


def test_the_number_of_classes() -> None:
    black_box = FunctionBlackBox(colors)
    with pytest.raises(InputError, match="number of classes"):
        _ = black_box.num_classes
    assert "colors" in repr(black_box)
    black_box(images())
    assert black_box.num_classes == 3
    assert FunctionBlackBox(colors, size=8).num_classes == 3
    assert FunctionBlackBox(colors, 3).num_classes == 3
    with pytest.raises(ContractError, match=r"expected logits of shape \(5, 4\)"):
        FunctionBlackBox(colors, num_classes=4)(images())
    with pytest.raises(InputError, match="2 class_names were given"):
        FunctionBlackBox(colors, class_names=["a", "b"])(images())


def test_images() -> None:
    photo = Image.new("RGBA", (30, 20), (255, 0, 0, 255))
    own, geometry = FunctionBlackBox(colors).prepare(photo)
    assert own.shape == (1, 3, 20, 30)
    assert geometry.region == (0, 0, 30, 20)
    sized, geometry = FunctionBlackBox(colors, size=(8, 10)).prepare(photo)
    assert sized.shape == (1, 3, 8, 10)
    assert geometry.region == (0, 0, 30, 20)
    assert FunctionBlackBox(colors, size=8, channels=1).prepare(photo)[0].shape == (1, 1, 8, 8)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda p: 1 / 0, "raised ZeroDivisionError on a numpy array"),
        (lambda p: colors(p)[:1], r"returns \(5, K\)"),
        (lambda p: colors(p) * np.nan, "NaN"),
        (lambda p: colors(p) * 5, "probabilities=False"),
        (lambda p: "cat", "returned str"),
        (lambda p: None, "returned NoneType"),
        (lambda p: [[1, 2], [3]], "returned list"),
        (lambda p: p, r"\(5, 6, 7, 3\)"),
    ],
)
def test_wrong_answers_are_named(function, words: str) -> None:
    with pytest.raises(SaliencyKitError, match=words):
        FunctionBlackBox(function)(images())


@pytest.mark.parametrize(
    "options",
    [
        {"num_classes": 1},
        {"size": 0},
        {"max_batch_size": 0},
        {"dtype": "int8"},
        {"output": "p"},
        {"fit": "x"},
        {"channels": 0},
    ],
)
def test_bad_options(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        FunctionBlackBox(colors, **options)
    with pytest.raises(InputError, match="takes a function"):
        FunctionBlackBox(3)
