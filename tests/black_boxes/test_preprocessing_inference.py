from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from saliencykit.black_boxes.function import FunctionBlackBox
from saliencykit.black_boxes.preprocessing_inference import Preprocessing, infer_preprocessing
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
        {"size": 32, "crop_pct": 0.875},
        {"size": 224, "crop_pct": 0.95, "interpolation": "bicubic"},
        {"size": 24, "fit": "squash", "interpolation": "lanczos"},
        {"size": (20, 28), "fit": "squash", "crop_pct": 0.9},
        {"size": 40, "fit": "pad"},
    ],
    ids=str,
)
def test_what_a_black_box_does_is_found_and_done_again_to_the_bit(options):
    black_box = QueryOnly(TorchBlackBox(nn.Flatten(), **RGB, **options))
    size = options["size"] if isinstance(options["size"], tuple) else (options["size"],) * 2
    found = infer_preprocessing(black_box, size, 3)
    assert found is not None
    for image in (photo(300, 451), photo(90, 64), photo(20, 20)):
        (mine, place), (theirs, other) = found(image), black_box.prepare(image)
        assert torch.equal(mine, theirs)
        assert place == other


def test_there_and_back_through_json():
    found = infer_preprocessing(TorchBlackBox(nn.Flatten(), **RGB, size=40, fit="pad"), (40, 40), 3)
    assert found.fill == RGB["mean"]
    assert Preprocessing(**asdict(found)) == found


def test_gray_and_functions_that_are_not_queried():
    black_box = Counting(FunctionBlackBox(lambda images: 1 / 0, num_classes=2, size=16, channels=1))
    assert infer_preprocessing(black_box, (16, 16), 1) == Preprocessing(
        (16, 16), "squash", 1.0, "bilinear", 1
    )
    assert black_box.batch_sizes == []


def test_what_is_unlike_anything_is_not_found():
    class StandaloneEncoder(TorchBlackBox.__bases__[0]):
        num_classes, differentiable = 2, False

        def prepare(self, image):
            images, place = FunctionBlackBox(len, num_classes=2, size=16).prepare(image)
            return images.flip(3), place

        def logits(self, images):
            return images.mean((2, 3))[:, :2]

    assert infer_preprocessing(StandaloneEncoder(), (16, 16), 3) is None
    assert infer_preprocessing(PlantedEvidence(), (16, 16), 3) is None  # takes tensors only
    assert infer_preprocessing(Broken(), (16, 16), 4) is None
