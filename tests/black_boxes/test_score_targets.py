"""Targets: scores from whatever a model returns, each against a slow and obvious form."""

from collections import namedtuple
from dataclasses import make_dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from saliencykit.black_boxes import DetectionScore, SegmentationClass, Similarity
from saliencykit.black_boxes.target_black_box import read_scores
from saliencykit.core.errors import ContractError, InputError
from tests.helpers import seeded

FORMS = [
    lambda tensor: tensor,
    lambda tensor: (tensor, "more"),
    lambda tensor: {"logits": tensor, "loss": None},
    lambda tensor: SimpleNamespace(logits=tensor),
    lambda tensor: namedtuple("Answer", "loss logits")(None, tensor),
    lambda tensor: make_dataclass("Answer", ["logits"])(tensor),
]


@pytest.mark.parametrize("form", FORMS)
def test_similarity_is_the_cosine_in_every_form_of_answer(form):
    embedding, reference = torch.randn(3, 5, generator=seeded()), torch.randn(5)
    a, b = embedding.numpy(), reference.numpy()
    expected = [a_i @ b / np.sqrt((a_i @ a_i) * (b @ b)) for a_i in a]
    assert torch.allclose(Similarity(reference)(form(embedding)), torch.tensor(expected))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("region", [None, (0.25, 0.5, 1.0, 1.0), "mask"])
def test_a_segmentation_class_is_the_mean_over_its_region(form, region):
    maps = torch.randn(2, 3, 4, 8, generator=seeded())
    inside = np.ones((4, 8), dtype=bool)
    if region == "mask":
        inside = np.arange(32).reshape(4, 8) % 3 == 0
        region = torch.from_numpy(inside)
    elif region is not None:
        inside[:2], inside[:, :2] = False, False
    expected = [float(image[1][inside].mean()) for image in maps.numpy()]
    scores = SegmentationClass(1, region)(form(maps))
    assert scores.tolist() == pytest.approx(expected, abs=1e-6)


def test_a_region_of_another_size_counts_by_its_share_of_each_position():
    region = torch.zeros(8, 8)
    region[:4, :2] = 1
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    assert SegmentationClass(0, region)(maps).tolist() == [2.0]  # positions 0 and 4


def overlap(a, b):
    """The intersection over union, by counting cells of a fine grid."""
    grid = (np.arange(400) + 0.5) / 40
    x, y = np.meshgrid(grid, grid)
    first, second = (
        (x > p[0]) & (x < p[2]) & (y > p[1]) & (y < p[3]) for p in (np.array(a), np.array(b))
    )
    return (first & second).sum() / max((first | second).sum(), 1)


def detections():
    corners = torch.randint(0, 5, (6, 2), generator=seeded()).float()
    sides = torch.randint(1, 5, (6, 2), generator=seeded(1)).float()
    return {
        "boxes": torch.cat([corners, corners + sides], 1),
        "labels": torch.tensor([1, 2, 1, 1, 2, 3]),
        "scores": torch.rand(6, generator=seeded(2)),
    }


@pytest.mark.parametrize("label", [1, 2, 3])
def test_a_detection_score_is_the_best_overlap_times_confidence(label):
    found, bbox = detections(), (1.0, 1.0, 4.0, 5.0)
    expected = max(
        overlap(box, bbox) * score
        for box, own, score in zip(*(value.tolist() for value in found.values()), strict=True)
        if own == label
    )
    scores = DetectionScore(bbox, label)([found, found])
    assert scores.tolist() == pytest.approx([expected] * 2, abs=1e-3)


def test_an_object_that_is_not_detected_scores_zero_and_keeps_its_graph():
    found = detections()
    found["scores"].requires_grad_()
    score = DetectionScore((0, 0, 1, 1), label=9)([found])
    score.sum().backward()
    assert score.tolist() == [0.0]
    assert found["scores"].grad is not None


def test_detr_answers_in_fractions_with_a_last_column_for_no_object():
    logits = torch.tensor([[[5.0, 0.0, 0.0], [0.0, 3.0, 0.0]]])
    boxes = torch.tensor([[[0.5, 0.5, 1.0, 1.0], [0.25, 0.5, 0.5, 1.0]]])
    answer = SimpleNamespace(logits=logits, pred_boxes=boxes)
    p = np.exp([0.0, 3.0, 0.0]) / np.exp([0.0, 3.0, 0.0]).sum()
    first = np.exp([5.0, 0.0, 0.0]) / np.exp([5.0, 0.0, 0.0]).sum()
    expected = max(p[1] * 1.0, first[1] * 0.5)
    score = DetectionScore((0, 0, 0.5, 1), label=1)(answer)
    assert score.tolist() == pytest.approx([expected])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Similarity(torch.zeros(2, 3)), r"reference embedding \(D,\)"),
        (lambda: Similarity(torch.zeros(3, dtype=torch.int64)), "of floats"),
        (lambda: SegmentationClass(0, torch.zeros(4, 4)), "the region is empty"),
        (lambda: SegmentationClass(0, (0.5, 0, 0.2, 1)), "x0 < x1"),
        (lambda: SegmentationClass(0, torch.ones(3)), r"mask \(H, W\) or a bounding box"),
        (lambda: DetectionScore((3, 0, 1, 1), 0), "x0 < x1"),
    ],
)
def test_a_target_that_makes_no_sense_is_refused(make, says):
    with pytest.raises(InputError, match=says):
        make()


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (Similarity(torch.ones(3)), r"an embedding \(B, D\).*target=lambda answer"),
        (SegmentationClass(7), "classes 0..1"),
        (DetectionScore((0, 0, 1, 1), 0), "a list with boxes, labels and scores"),
    ],
)
def test_an_answer_that_a_target_cannot_read_is_an_error_with_the_way_out(target, says):
    with pytest.raises(InputError, match=says):
        target(torch.zeros(1, 2, 4, 4))


@pytest.mark.parametrize(
    ("target", "error", "says"),
    [
        (lambda answer: answer["x"], InputError, "raised KeyError on what Net returned, dict"),
        (lambda answer: 3.0, ContractError, "returned float for 2 images; expected one float per"),
        (lambda answer: torch.zeros(3), ContractError, r"float32 of shape \(3,\) for 2 images"),
        (lambda answer: torch.zeros(2, 0), ContractError, r"of shape \(2, 0\)"),
        (lambda answer: torch.zeros(2, dtype=torch.int64), ContractError, r"int64 of shape \(2,\)"),
    ],
)
def test_scores_of_another_form_are_refused(target, error, says):
    with pytest.raises(error, match=says):
        read_scores(target, {}, 2, "Net")
