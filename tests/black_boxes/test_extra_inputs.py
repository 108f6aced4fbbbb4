"""Models of several inputs: everything but the images stays as it is."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saliencykit import TorchBlackBox, explain
from saliencykit.core.errors import InputError


class Two(nn.Module):
    """The class depends on the image, or on the sign of a number."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.flat = nn.Conv2d(3, 4, 3), nn.Flatten()

    def forward(self, x: Tensor, number: Tensor, scale: float = 1.0) -> Tensor:
        return self.conv(x).mean((2, 3)) * number * scale


def test_further_inputs_are_repeated_for_every_image_of_a_batch() -> None:
    model, images, number = Two(), torch.rand(5, 3, 8, 8), torch.tensor([[3.0]])
    with torch.no_grad():
        for given in ((number, 2.0), {"number": number, "scale": 2.0}):
            black_box = TorchBlackBox(model, forward_args=given)
            torch.testing.assert_close(black_box(images), model(images, number, 2.0))
            torch.testing.assert_close(
                black_box.optimized_for(images)(images), model(images, number, 2.0)
            )
            assert "Two" in repr(black_box)


@pytest.mark.parametrize(
    "masker", ["grad-cam", "iterative:steps=2,areas=(0.2,0.2)", "rise:samples=16", "gradient"]
)
def test_maskers_see_a_model_of_images(masker: str) -> None:
    model = Two()
    black_box = TorchBlackBox(model, forward_args=(torch.tensor([[3.0]]),))
    images = torch.rand(2, 3, 8, 8)
    plain = nn.Sequential(model.conv, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    answer = explain(black_box, images, 1, masker=masker)
    assert answer.mask.shape == (2, 1, 8, 8)
    torch.testing.assert_close(answer.logits, 3 * plain(images).detach())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (torch.rand(1, 1), r"write forward_args=\(value,\)"),
        ("text", r"write forward_args=\(value,\)"),
        (7, "takes a tuple or a dict"),
        ((torch.rand(4, 1),), r"the inputs of one image.*one by one"),
    ],
)
def test_inputs_of_another_form_are_refused(given: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        TorchBlackBox(Two(), forward_args=given)
