import numpy as np
import pytest
import torch

from saliencykit.networks.ridge_probe import ridge_probe
from tests.helpers import seeded


@pytest.mark.parametrize("output", ["softmax", "sigmoid", "score"])
def test_it_is_the_ridge_regression_that_numpy_solves(output):
    x, noise = torch.randn(60, 5, generator=seeded(0)), torch.randn(60, 3, generator=seeded(2))
    logits = x @ torch.randn(5, 3, generator=seeded(1)) + 1e-3 * noise
    weight, bias = ridge_probe(x, logits, output)
    wanted = logits.double().numpy()
    if output == "softmax":
        wanted = wanted - wanted.mean(1, keepdims=True)
    design = x.double().numpy()
    design = design - design.mean(0)
    size = 1e-3 * np.trace(design.T @ design) / 5  # of nearly linear logits the least ridge is best
    rows = np.concatenate([design, np.sqrt(size) * np.eye(5)])
    targets = np.concatenate([wanted - wanted.mean(0), np.zeros((5, 3))])
    expected = np.linalg.lstsq(rows, targets, rcond=None)[0].T
    assert np.allclose(weight.numpy(), expected, atol=1e-4)
    assert np.allclose(bias.numpy(), wanted.mean(0) - expected @ x.numpy().mean(0), atol=1e-4)


def test_more_features_than_images_are_no_problem_and_impossible_classes_neither():
    x = torch.randn(8, 40, generator=seeded(0))
    weight, bias = ridge_probe(x, torch.tensor([[0.0, -1e4]] * 8), "softmax")
    assert torch.isfinite(weight).all()
    assert bias.tolist() == pytest.approx([5.0, -5.0])
