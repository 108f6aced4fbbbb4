"""Doubts about an explanation, each with the images and the line to write."""

import warnings

import pytest
import torch
from torch import nn

from saliencykit import TorchBlackBox, explain
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import ReliabilityWarning
from saliencykit.core.masker import Masker
from saliencykit.explanation.doubts import doubts, unsteady_answers
from saliencykit.explanation.result import Explanation
from saliencykit.testing.black_boxes import PlantedEvidence


class Constant(BlackBox):
    """Always the same answer."""

    num_classes = 3

    def logits(self, images):
        return images.new_tensor([[4.0, 0.0, 0.0]]).expand(len(images), -1)


class Evidence(Masker):
    """The planted patch, or everything but it."""

    def __init__(self, inverted=False):
        self.inverted = inverted

    def mask(self, black_box, images, labels, generator):
        truth = black_box.evidence(images, labels)
        return 1 - truth if self.inverted else truth


class Corner(Masker):
    """The lower left corner."""

    def mask(self, black_box, images, labels, generator):
        mask = images.new_zeros(len(images), 1, 8, 8)
        mask[..., 6:, :2] = 1
        return mask


def planted(count=2):
    black_box = PlantedEvidence()
    return black_box, *black_box.examples(count, generator=torch.Generator().manual_seed(0))


def explained(black_box, images, labels, masker, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        answer = explain(black_box, images, labels, masker=masker, **options)
    return answer, [str(w.message) for w in caught if w.category is ReliabilityWarning]


def test_a_model_that_looks_at_the_rest_of_the_batch_is_noticed():
    def net(**options):
        norm, head = nn.BatchNorm2d(4, **options), (nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), *head, nn.Linear(4, 3)).eval()

    image = torch.rand(1, 3, 8, 8)
    with pytest.warns(ReliabilityWarning, match=r"images of its batch.*max_batch_size=1"):
        explain(net(track_running_stats=False), image, 0, masker="center-box")
    apart = TorchBlackBox(net(track_running_stats=False), max_batch_size=1)
    for model in (TorchBlackBox(net()), apart):
        assert unsteady_answers(model, image) == []


def test_a_mask_that_shows_the_evidence_is_not_doubted():
    black_box, images, labels = planted()
    answer, messages = explained(black_box, images, labels, Evidence())
    assert answer.verdicts == ("both", "both")
    assert messages == []
    assert repr(answer).count("this region alone decides") == 2


def test_a_model_that_never_changes_its_mind_was_not_tested():
    answer, messages = explained(Constant(), torch.rand(5, 3, 16, 16), 0, Corner())
    assert answer.verdicts == ("saturated",) * 5
    (message,) = messages
    assert message.startswith("image 0, image 1, image 2 and 2 more: class 0 stays at 96.5%")
    assert "write alternative='noise'" in message


def test_a_score_that_hardly_changes_is_doubted_in_words_for_scores():
    class Age(BlackBox):
        num_classes, output = 1, "score"

        def logits(self, images):
            return 46 + images.mean((1, 2, 3))[:, None] - images[:, :1, 0, 0]

    answer, (message,) = explained(Age(), torch.rand(1, 3, 16, 16), 0, Corner())
    assert answer.verdicts == ("saturated",)
    assert message.startswith("the image: the score is 4")
    assert "target=lambda answer: ... - 4" in message


def test_a_mask_beside_the_evidence_is_doubted():
    black_box, images, labels = planted(1)
    answer, (message,) = explained(black_box, images, labels, Evidence(inverted=True))
    assert answer.verdicts == ("neither",)
    assert "does not show what decides; write masker='rise'" in message


def test_a_constant_mask_is_doubted_without_verification_too():
    black_box, images, labels = planted(1)
    answer, messages = explained(black_box, images, labels, "whole-image", verify=False)
    assert answer.verdicts is None
    assert "verdict" not in repr(answer)
    assert ["everywhere" in message for message in messages] == [True]


def test_a_batch_says_each_kind_once():
    answer, _ = explained(Constant(), torch.rand(4, 3, 16, 16), 0, "whole-image")
    assert [("everywhere" in text, "nothing was tested" in text) for text in doubts(answer)] == [
        (True, False),
        (False, True),
    ]


def test_a_certified_region_that_is_the_whole_image_says_what_would_make_it_smaller():
    images, settings = torch.rand(1, 3, 4, 4), {"masker": "Cam() certified(keep=0.9, level=0.9) 1a"}
    (message,) = doubts(
        Explanation(
            images,
            torch.tensor([0]),
            torch.ones(1, 1, 4, 4),
            torch.zeros(1, 2),
            provenance=settings,
        )
    )
    assert "the certified region is the whole image" in message
    assert "lower keep or level" in message
