"""Canvas: several inputs on one picture, and back."""

import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.integrations.captum.canvas import Canvas


@pytest.mark.parametrize(
    ("shapes", "wanted"),
    [
        ([(3, 4, 5)], (3, 4, 5)),
        ([(3, 4, 5), (3, 4, 2)], (3, 4, 7)),
        ([(3, 4, 5), (1, 4, 5)], (1, 1, 80)),
        ([(7,)], (1, 1, 7)),
        ([(7,), (2, 3)], (1, 1, 13)),
    ],
)
def test_there_and_back(shapes, wanted):
    tensors = tuple(torch.rand(2, *shape) for shape in shapes)
    canvas = Canvas.of(tensors)
    picture = canvas.picture(tensors)
    assert picture.shape == (2, *wanted)
    back = canvas.split(picture)
    assert all(torch.equal(a, b) and b.is_contiguous() for a, b in zip(tensors, back, strict=True))


def test_inputs_keep_their_dtypes():
    tensors = torch.rand(2, 3), torch.rand(2, 4).to(torch.bfloat16), torch.rand(2, 1).double()
    canvas = Canvas.of(tensors)
    assert [part.dtype for part in canvas.split(canvas.picture(tensors))] == [
        t.dtype for t in tensors
    ]


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        (0.5, 1),
        (torch.zeros(1, 3, 4, 5), 1),
        (torch.zeros(2, 3, 4, 5), 2),
        (torch.zeros(2, 1, 4, 1), 2),
    ],
)
def test_numbers_and_rows_are_spread(given, rows):
    canvas = Canvas.of(torch.rand(2, 3, 4, 5))
    assert canvas.spread(given, 2, "baselines").shape == (rows, 3, 4, 5)


def test_rows_of_one_input_are_repeated_beside_those_of_another():
    canvas = Canvas.of((torch.rand(2, 3), torch.rand(2, 4)))
    spread = canvas.spread((1.0, torch.tensor([[2.0], [3.0]])), 2, "baselines")
    assert spread.flatten(1).tolist() == [[1.0] * 3 + [2.0] * 4, [1.0] * 3 + [3.0] * 4]


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (torch.zeros(2, 3, dtype=torch.int64), "embeddings"),
        (torch.zeros(3), "float tensors"),
        (torch.zeros(0, 3), "no empty side"),
        ((torch.zeros(2, 3), torch.zeros(3, 3)), r"equally many rows; got \[2, 3\]"),
        ((), "equally many rows"),
        (None, "got NoneType"),
    ],
)
def test_inputs_that_are_none_are_refused(inputs, says):
    with pytest.raises(InputError, match=says):
        Canvas.of(inputs)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((1.0, 2.0), "one for each of 1 inputs; got 2"),
        ("black", "takes numbers and tensors; got str"),
        (torch.zeros(3, 3, 4, 5), r"does not fit inputs of shape \(2, 3, 4, 5\)"),
        (torch.zeros(2, 3, 4, 6), "does not fit"),
        (torch.zeros(1, 2, 3, 4, 5), "does not fit"),
    ],
)
def test_what_does_not_fit_is_refused(given, says):
    with pytest.raises(InputError, match=says):
        Canvas.of(torch.rand(2, 3, 4, 5)).spread(given, 2, "baselines")
