import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from saliencykit.black_boxes.function import FunctionBlackBox
from saliencykit.black_boxes.infer_preprocessing import Preparing, find_preparing
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.testing.black_boxes import Broken, Counting, PlantedEvidence, QueryOnly

RGB = {"mean": (0.2, 0.4, 0.6), "std": (0.25,) * 3}


def photo(height, width):
    return Image.fromarray(
        np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )


@pytest.mark.parametrize(
    "options",
    [
        {"size": 32},
        {"size": 32, "crop_share": 0.875},
        {"size": 224, "crop_share": 0.95, "interpolation": "bicubic"},
        {"size": 24, "fit": "squash", "interpolation": "lanczos"},
        {"size": (20, 28), "fit": "squash", "crop_share": 0.9},
        {"size": 40, "fit": "pad"},
    ],
    ids=str,
)
def test_what_a_box_does_is_found_and_done_again_to_the_bit(options):
    box = QueryOnly(TorchBlackBox(nn.Flatten(), **RGB, **options))
    size = options["size"] if isinstance(options["size"], tuple) else (options["size"],) * 2
    found = find_preparing(box, size, 3)
    assert found is not None
    for picture in (photo(300, 451), photo(90, 64), photo(20, 20)):
        (mine, place), (theirs, other) = found(picture), box.prepare(picture)
        assert torch.equal(mine, theirs)
        assert place == other


def test_there_and_back_through_json():
    found = find_preparing(TorchBlackBox(nn.Flatten(), **RGB, size=40, fit="pad"), (40, 40), 3)
    assert found.fill == RGB["mean"]
    assert Preparing(**found.as_facts()) == found


def test_grey_and_functions_that_are_not_asked():
    box = Counting(FunctionBlackBox(lambda pictures: 1 / 0, num_classes=2, size=16, channels=1))
    assert find_preparing(box, (16, 16), 1) == Preparing((16, 16), "squash", 1.0, "bilinear", 1)
    assert box.asked == []


def test_what_is_unlike_anything_is_not_found():
    class Own(TorchBlackBox.__bases__[0]):
        num_classes, differentiable = 2, False

        def prepare(self, picture):
            images, place = FunctionBlackBox(len, num_classes=2, size=16).prepare(picture)
            return images.flip(3), place

        def logits(self, images):
            return images.mean((2, 3))[:, :2]

    assert find_preparing(Own(), (16, 16), 3) is None
    assert find_preparing(PlantedEvidence(), (16, 16), 3) is None  # takes tensors only
    assert find_preparing(Broken(), (16, 16), 4) is None
