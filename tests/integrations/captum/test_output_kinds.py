"""Our maskers behind Captum's interface give Captum's own numbers for scores and for labels."""

import pytest
import torch
from captum import attr
from torch import Generator, nn

from saliencykit.integrations.captum import MaskerAttribution
from saliencykit.maskers.gradient.input_gradients import Gradient
from saliencykit.maskers.perturbation.feature_ablation import FeatureAblation
from saliencykit.maskers.perturbation.occlusion import Occlusion
from saliencykit.testing.black_boxes import small_network

X = torch.rand(2, 3, 16, 16, generator=Generator().manual_seed(3), dtype=torch.float64)


def network(*rows):
    head = nn.Linear(4, len(rows))
    head.weight.data, head.bias.data = torch.tensor(rows), torch.zeros(len(rows))
    return nn.Sequential(small_network(), head).double().eval()


LABELS = network((3.0, 1.0, -2.0, 0.0), (-5.0, 2.0, 3.0, 1.0), (9.0, -9.0, 9.0, 5.0))
SCORE = network((3000.0, -2000.0, 900.0, 500.0))
KINDS = {
    "sigmoid": (LABELS, lambda x: LABELS(x).sigmoid(), 1),
    "score": (SCORE, SCORE, 0),
}
REGIONS = (torch.arange(16)[:, None] // 4 * 4 + torch.arange(16) // 4)[None, None]


def ours(kind, masker, **options):
    model, _, target = KINDS[kind]
    attribution = MaskerAttribution(model, masker, values="attributions", output=kind)
    return attribution.attribute(X, target=target, **options)


def sign(kind):
    """1 or -1 per image: whether the score is above that of the replaced image."""
    _, forward, target = KINDS[kind]
    if kind == "sigmoid":
        return 1
    change = (forward(X) - forward(torch.zeros_like(X)))[:, target].sign()
    return change.detach().view(-1, 1, 1, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_feature_ablation(kind):
    _, forward, target = KINDS[kind]
    options = {"baselines": 0, "feature_mask": REGIONS}
    theirs = attr.FeatureAblation(forward).attribute(X, target=target, **options)
    assert theirs.abs().max() > 1e-4
    result = ours(kind, FeatureAblation(), **options)
    assert torch.allclose(result, (theirs * sign(kind)).double(), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_occlusion(kind):
    _, forward, target = KINDS[kind]
    windows = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 2, 2), "baselines": 0}
    theirs = attr.Occlusion(forward).attribute(X, target=target, **windows)
    result = ours(kind, Occlusion(window=4, stride=2), baselines=0)
    assert torch.allclose(result, (theirs * sign(kind)).double(), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_saliency(kind):
    model, _, target = KINDS[kind]
    theirs = attr.Saliency(model).attribute(X.clone(), target=target, abs=False)
    result = ours(kind, Gradient(channels="sum"))
    expected = theirs.sum(1, keepdim=True).expand_as(X)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_the_single_output_of_a_sigmoid_has_the_gradient_of_its_logit(output):
    theirs = attr.Saliency(SCORE).attribute(X.clone(), target=0, abs=False)
    attribution = MaskerAttribution(
        SCORE, Gradient(channels="sum"), values="attributions", output=output
    )
    expected = theirs.sum(1, keepdim=True).expand_as(X)
    result = attribution.attribute(X, target=0)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)
