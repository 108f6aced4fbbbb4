"""Planted evidence is found for each kind of output, as well as for exclusive classes."""

from functools import cache

import pytest
import torch
from torch import Generator, nn
from torch.nn.functional import conv_transpose2d

from saliencykit import explain, fit
from saliencykit.black_boxes.score_targets import Similarity
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.testing.black_boxes import PlantedEvidence, iou

PLANTED = PlantedEvidence(num_classes=2)
IMAGES, LABELS = PLANTED.examples(2, generator=Generator().manual_seed(0))
TRUTH = PLANTED.evidence(IMAGES, LABELS)
MASKERS = {
    "iterative": "iterative:steps=20,grid_size=16",
    "rise": "rise:samples=1000,grid_size=16",
    "gradient": "gradient",
    "extremal": "extremal-perturbation:areas=0.0625,steps=50,grid_size=16",
    "cam": "cam",
    "grad-cam": "grad-cam",
}
each_masker = [
    pytest.param(name, marks=[pytest.mark.slow] if name in ("iterative", "extremal") else [])
    for name in MASKERS
]


class Planted(nn.Module):
    """A map of the evidence for two planted classes, its mean, and a linear head."""

    def __init__(self, weight, bias=None):
        super().__init__()
        self.maps = Evidence()
        self.head = nn.Linear(2, len(weight))
        self.head.weight.data = torch.tensor(weight)
        self.head.bias.data = torch.tensor(bias or [0.0] * len(weight))

    def forward(self, images):
        return self.head(self.maps(images).mean((2, 3)))


class Evidence(nn.Module):
    """Where the patch of each class matches best, the square of the match; its mean is the
    evidence, in [0, 1].
    """

    def forward(self, images):
        match = PLANTED._match(images).clamp_min(0).square()
        best = torch.where(match == match.amax((2, 3), keepdim=True), match, 0)
        side = PLANTED.side
        return conv_transpose2d(best, torch.full((2, 1, side, side), 16.0), groups=2)


KINDS = {
    "softmax": (Planted([[8.0, 0.0], [0.0, 8.0]]), "softmax"),
    "multi-label": (Planted([[8.0, 0.0], [0.0, 8.0], [0.0, 0.0]], [-4.0, -4.0, 3.0]), "sigmoid"),
    "scores": (Planted([[300.0, 0.0], [0.0, 300.0]], [4000.0, -20.0]), "score"),
    "one logit": (Planted([[-16.0, 16.0]]), "softmax"),
    "one logit as a label": (Planted([[-16.0, 16.0]]), "sigmoid"),
}
# an embedding, explained by its similarity to that of each class
EMBEDDING = Planted([[8.0, 0.0], [0.0, 8.0], [0.0, 0.0]], [0.0, 0.0, 1.0])
REFERENCES = [Similarity(reference) for reference in torch.eye(3)[:2]]
KINDS["similarity"] = (
    TorchBlackBox(
        EMBEDDING,
        output="score",
        target=lambda answer: torch.stack([each(answer) for each in REFERENCES], 1),
    ),
    "score",
)
TWIN = (Planted([[8.0, -8.0], [-8.0, 8.0]]), "softmax")  # of one logit


def explained(model, output, masker, label=LABELS):
    return explain(model, IMAGES, label, masker=MASKERS[masker], output=output, inputs="raw")


@cache
def found(kind, masker):
    """The mean intersection over union with the planted patch, of the mask's best pixels."""
    mask = explained(*KINDS[kind], masker).mask
    best = mask >= mask.flatten(1).kthvalue(256 - 16 + 1).values.view(-1, 1, 1, 1)
    return float(iou((best & (mask > 0)).float(), TRUTH).mean())


@pytest.mark.parametrize("kind", list(KINDS)[1:])
@pytest.mark.parametrize("masker", each_masker)
def test_the_evidence_is_found_as_for_exclusive_classes(masker, kind):
    if (masker, kind) == ("cam", "similarity"):
        with pytest.raises(InputError, match="grad-cam"):  # a target is no class of the head
            found(kind, masker)
        return
    assert found(kind, masker) >= found("softmax", masker) - 0.05


@pytest.mark.parametrize("masker", each_masker)
@pytest.mark.parametrize("label", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_both_answers_of_one_logit_are_those_of_two_outputs(masker, label):
    one, two = (explained(*case, masker, label) for case in (KINDS["one logit"], TWIN))
    assert torch.allclose(one.mask, two.mask, atol=1e-4)
    assert torch.allclose(one.probability, two.probability, atol=1e-6)
    assert one.mask.amax() > 0


def test_a_low_score_is_explained_as_low_and_shown_as_it_is():
    model = Planted([[-300.0, 0.0]], [41.5])
    with pytest.warns(UserWarning, match="image 1: the score stays at 41.5 with all pixels"):
        explanation = explained(model, "score", "rise", None)
    assert explanation.labels.tolist() == [0, 0]
    assert torch.allclose(explanation.probability, model(IMAGES)[:, 0])
    assert iou(explanation.mask[:1], TRUTH[:1]) > 0.5  # of class 0, which lowers the score
    assert "0: -258.5, kept " in repr(explanation)


def test_a_score_that_the_image_does_not_change_has_nothing_to_explain():
    model = Planted([[0.0, 0.0]], [41.5])
    with pytest.warns(UserWarning, match="the score stays at 41.5 with all pixels"):
        explanation = explained(model, "score", "rise", None)
    assert explanation.mask.amax() == 0


def test_a_constant_label_does_not_compete_with_the_others():
    model, output = KINDS["multi-label"]
    explanation = explained(model, output, "gradient")
    expected = model(IMAGES).sigmoid()[torch.arange(2), LABELS]
    assert torch.allclose(explanation.probability, expected)
    assert explained(model, output, "gradient", None).labels.tolist() == LABELS.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "similarity"])
def test_fit_learns_where_the_evidence_is(kind):
    model, output = KINDS[kind]
    images, labels = PLANTED.examples(64, generator=Generator().manual_seed(5))
    given = labels if output == "score" else None  # a score has no top class
    black_box = TorchBlackBox(model, output=output, size=16)
    masker = fit(black_box, images, given, steps=60, batch_size=8)
    assert iou(masker.predict(IMAGES, LABELS)[1], TRUTH).min() >= 0.95
    assert masker.metadata["validation"]["passed"]
