"""Captum's inputs, baselines and feature masks as batches of images."""

import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.integrations.captum.image_inputs import expanded, images_of

X = torch.rand(2, 3, 4, 5)


def test_a_batch_of_images_alone_or_in_a_tuple():
    assert images_of(X) is X
    assert images_of((X,)) is X


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (torch.zeros(2, 3), r"explains images.*got torch.float32 of shape \(2, 3\)"),
        (torch.zeros(2, 3, 4, 5, dtype=torch.int64), "got torch.int64"),
        (torch.zeros(0, 3, 4, 5), "no empty side"),
        (torch.zeros(2, 3, 0, 5), "no empty side"),
        ((X, X), r"got .*\(2, 3, 4, 5\), .*additional_forward_args"),
        ((), "an empty tuple"),
        (None, "got NoneType"),
    ],
)
def test_other_inputs_are_refused(inputs, says):
    with pytest.raises(InputError, match=says):
        images_of(inputs)


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        (0.5, 1),
        ((0,), 1),
        (torch.zeros(1, 3, 4, 5), 1),
        (torch.zeros(2, 3, 4, 5), 2),
        (torch.zeros(2, 1, 4, 1), 2),
    ],
)
def test_numbers_and_rows_are_expanded(given, rows):
    assert expanded(given, X, "baselines").shape == (rows, 3, 4, 5)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((1.0, 2.0), "got 2 values"),
        ("black", "takes a number or a tensor; got str"),
        (torch.zeros(3, 3, 4, 5), r"does not fit inputs of shape \(2, 3, 4, 5\)"),
        (torch.zeros(2, 3, 4, 6), "does not fit"),
        (torch.zeros(1, 2, 3, 4, 5), "does not fit"),
    ],
)
def test_what_does_not_fit_is_refused(given, says):
    with pytest.raises(InputError, match=says):
        expanded(given, X, "baselines")
