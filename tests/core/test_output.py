import numpy as np
import pytest
import torch

from saliencykit.core.output import log_probability, margin, probability


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
