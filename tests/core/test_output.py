import numpy as np
import pytest
import torch

from saliencykit.alternatives.constant import Constant
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import ContractError
from saliencykit.core.output import (
    RelativeScores,
    log_probability,
    margin,
    probability,
    reported,
)
from saliencykit.core.query_batches import relative_output
from saliencykit.testing.black_boxes import Counting, PlantedEvidence


@pytest.fixture
def logits():
    return torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3


LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


def test_probability_is_the_softmax(logits):
    z = logits.numpy()
    slow = [np.exp(row[c]) / np.exp(row).sum() for row, c in zip(z, LABELS.tolist(), strict=True)]
    np.testing.assert_allclose(probability(logits, LABELS, "softmax").numpy(), slow, rtol=1e-12)
    np.testing.assert_allclose(
        log_probability(logits, LABELS, "softmax").numpy(), np.log(slow), rtol=1e-12
    )


def test_margin_is_the_largest_other_logit_minus_the_labels(logits):
    z = logits.numpy()
    slow = [
        max(v for k, v in enumerate(row) if k != c) - row[c]
        for row, c in zip(z, LABELS.tolist(), strict=True)
    ]
    np.testing.assert_allclose(margin(logits, LABELS, "softmax").numpy(), slow, rtol=1e-12)


def test_they_stay_finite_where_the_probability_underflows():
    far = torch.tensor([[0.0, 2000.0], [2000.0, 0.0]])
    zero = torch.zeros(2, dtype=torch.int64)
    assert log_probability(far, zero, "softmax").tolist() == [-2000.0, 0.0]
    assert probability(far, zero, "softmax").tolist() == [0.0, 1.0]
    assert margin(far, zero, "softmax").tolist() == [2000.0, -2000.0]


def test_one_class():
    one, zero = torch.tensor([[3.0]]), torch.tensor([0])
    assert probability(one, zero, "softmax").item() == 1.0
    assert margin(one, zero, "softmax").item() == 0.0


def test_gradients(logits):
    for measure in (log_probability, margin):
        assert torch.autograd.gradcheck(
            lambda z, m=measure: m(z, LABELS, "softmax"), logits.clone().requires_grad_(True)
        )


def test_a_label_of_its_own_has_the_logistic_probability(logits):
    own = logits.numpy()[np.arange(6), LABELS.numpy()]
    p = 1 / (1 + np.exp(-own))
    np.testing.assert_allclose(probability(logits, LABELS, "sigmoid").numpy(), p, rtol=1e-12)
    np.testing.assert_allclose(margin(logits, LABELS, "sigmoid").numpy(), -own, rtol=1e-12)
    log_p = log_probability(torch.full((1, 1), -2000.0), torch.tensor([0]), "sigmoid")
    assert log_p.item() == -2000.0


def test_scores_are_read_relative_to_their_own_image(logits):
    whole, replaced, labels = logits[:2], logits[2:4], torch.tensor([1, 3])
    relative = RelativeScores(whole, replaced)
    edits = torch.cat([whole, replaced, (whole + replaced) / 2, 3 * whole])
    rows, classes = np.arange(8) % 2, labels.repeat(4)
    s, s1, s0 = (
        t.numpy()[i, classes.numpy()]
        for t, i in ((edits, np.arange(8)), (whole, rows), (replaced, rows))
    )
    z = 4 * (s - (s1 + s0) / 2) / (s1 - s0)
    np.testing.assert_allclose(margin(edits, classes, relative).numpy(), -z, atol=1e-12)
    p = probability(edits, classes, relative)
    np.testing.assert_allclose(p.numpy(), 1 / (1 + np.exp(-z)), rtol=1e-12)
    assert torch.equal(p[[0, 2]], probability(edits[[0, 2]], classes[[0, 2]], relative[:1]))
    assert torch.equal(reported(edits, classes, "score"), torch.from_numpy(s))


def test_where_whole_and_replaced_agree_no_score_is_evidence():
    relative = RelativeScores(torch.tensor([[7.0, 1.0]]), torch.tensor([[7.00001, 3.0]]))
    assert relative.differ.tolist() == [[False, True]]
    assert relative.direction.tolist() == [[0.0, -1.0]]
    assert relative.logits(torch.tensor([[9.0, 3.0], [5.0, 1.0]])).tolist() == [[0, -2], [0, 2]]


def test_a_score_alone_has_no_probability():
    with pytest.raises(ContractError, match="relative_output"):
        probability(torch.zeros(1, 2), torch.tensor([0]), "score")
    with pytest.raises(ContractError, match="3 scores cannot be relative to 2 images"):
        RelativeScores(torch.ones(2, 1), torch.zeros(2, 1)).logits(torch.zeros(3, 1))


def test_only_scores_are_queried_for_what_they_are_relative_to():
    black_box = Counting(PlantedEvidence())
    images = torch.rand(2, 3, 8, 8)
    assert relative_output(black_box, images, None, torch.Generator()) == "softmax"
    assert black_box.num_images == 0


@pytest.mark.parametrize("alternative", [None, Constant(color=0.25)])
def test_the_replaced_image_is_all_alternative_or_its_mean_color(alternative):
    class Sides(BlackBox):
        num_classes, differentiable, output = 2, True, "score"

        def logits(self, images):
            return images.flatten(1)[:, [0, -1]]

    images = torch.rand(2, 3, 8, 8)
    relative = relative_output(Sides(), images, alternative, torch.Generator())
    assert torch.equal(relative.whole, images.flatten(1)[:, [0, -1]])
    mean = images.mean((2, 3))[:, [0, -1]]
    assert torch.allclose(
        relative.replaced, mean if alternative is None else torch.full((2, 2), 0.25)
    )
