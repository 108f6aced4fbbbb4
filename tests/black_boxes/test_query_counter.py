"""CountingBlackBox: a black box that reports every query."""

import pytest
import torch

from saliencykit import GradientError, TorchBlackBox, explain
from saliencykit.black_boxes.query_counter import CountingBlackBox
from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly


def test_every_query_is_reported_and_the_explanation_is_the_same() -> None:
    black_box = PlantedEvidence()
    images, labels = black_box.examples(2, generator=torch.Generator().manual_seed(0))
    counts: list[int] = []
    counted = explain(
        CountingBlackBox(black_box, counts.append), images, labels, masker="rise:samples=64"
    )
    plain = explain(black_box, images, labels, masker="rise:samples=64")
    assert torch.equal(counted.mask, plain.mask)
    assert sum(counts) >= 2 * 64
    assert counted.provenance["model"] == plain.provenance["model"]


def test_the_wrapper_has_the_properties_of_its_black_box() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
    black_box = TorchBlackBox(model, mean=(0.1, 0.2, 0.3), std=(1.0,) * 3, size=4, max_batch_size=7)
    counted = CountingBlackBox(black_box, lambda count: None)
    assert (
        counted.num_classes,
        counted.device,
        counted.baseline_color,
        counted.max_batch_size,
    ) == (
        3,
        black_box.device,
        black_box.baseline_color,
        7,
    )
    assert counted.without_preprocessing().baseline_color is None
    assert isinstance(counted.optimized_for(torch.rand(1, 3, 4, 4)), CountingBlackBox)


def test_messages_name_the_wrapped_black_box() -> None:
    black_box = QueryOnly(PlantedEvidence())
    with pytest.raises(GradientError, match="needs gradients and QueryOnly is query-only"):
        explain(
            CountingBlackBox(black_box, lambda count: None),
            torch.rand(1, 3, 16, 16),
            0,
            masker="gradient",
        )
