"""Watched: a box that reports how often it is asked."""

import pytest
import torch

from saliencykit import GradientError, TorchBlackBox, explain
from saliencykit.cli.query_counter import CountingBlackBox
from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly


def test_every_image_is_reported_and_the_answer_is_the_same() -> None:
    black_box = PlantedEvidence()
    images, labels = black_box.examples(2, generator=torch.Generator().manual_seed(0))
    asked: list[int] = []
    watched = explain(
        CountingBlackBox(black_box, asked.append), images, labels, masker="rise:samples=64"
    )
    plain = explain(black_box, images, labels, masker="rise:samples=64")
    assert torch.equal(watched.mask, plain.mask)
    assert sum(asked) >= 2 * 64
    assert watched.provenance["model"] == plain.provenance["model"]


def test_what_the_box_says_of_itself_is_passed_on() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
    black_box = TorchBlackBox(model, mean=(0.1, 0.2, 0.3), std=(1.0,) * 3, size=4, max_batch=7)
    watched = CountingBlackBox(black_box, lambda count: None)
    assert (watched.num_classes, watched.device, watched.baseline_color, watched.max_batch) == (
        3,
        black_box.device,
        black_box.baseline_color,
        7,
    )
    assert watched.without_preprocessing().baseline_color is None
    assert isinstance(watched.optimized_for(torch.rand(1, 3, 4, 4)), CountingBlackBox)


def test_messages_name_the_box_that_is_watched() -> None:
    black_box = QueryOnly(PlantedEvidence())
    with pytest.raises(GradientError, match="needs gradients and QueryOnly is query-only"):
        explain(
            CountingBlackBox(black_box, lambda count: None),
            torch.rand(1, 3, 16, 16),
            0,
            masker="gradient",
        )
