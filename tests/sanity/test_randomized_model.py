"""A copy with random weights; the user's model is only read."""

import pytest
import torch

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.sanity.randomized_model import randomized
from saliencykit.testing.black_boxes import PlantedEvidence, small_network

IMAGES = torch.rand(32, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def black_box_of(**options):
    return TorchBlackBox(small_network(), **options)


@pytest.mark.parametrize("what", ["head", "weights"])
def test_the_model_is_unchanged(what):
    black_box = black_box_of()
    before = {name: values.clone() for name, values in black_box.model.state_dict().items()}
    state = torch.get_rng_state()
    twin = randomized(black_box, IMAGES, what)
    assert all(
        torch.equal(before[name], values) for name, values in black_box.model.state_dict().items()
    )
    assert torch.equal(state, torch.get_rng_state())
    assert black_box.model.training
    assert not torch.allclose(twin(IMAGES), black_box(IMAGES))
    same = [
        torch.equal(a, b)
        for a, b in zip(twin.model[0].parameters(), black_box.model[0].parameters(), strict=True)
    ]
    assert all(same) == (what == "head")
    assert torch.equal(twin.model[1].running_mean, black_box.model[1].running_mean)
    assert torch.equal(randomized(black_box, IMAGES, what)(IMAGES), twin(IMAGES)), (
        "the seed decides"
    )
    assert not torch.equal(randomized(black_box, IMAGES, what, seed=1)(IMAGES), twin(IMAGES))


def test_logits_keep_their_spread_and_get_one_mean():
    black_box = black_box_of()
    intact, random = black_box(IMAGES).detach(), randomized(black_box, IMAGES)(IMAGES)
    assert float((random - random.mean(0)).std()) == pytest.approx(
        float((intact - intact.mean(0)).std()), rel=1e-3
    )
    assert float(random.mean(0).std()) < 1e-4
    assert len(random.argmax(1).unique()) > 1


def test_a_head_without_bias_gets_one():
    model = small_network()
    model[-1].bias = None
    random = randomized(TorchBlackBox(model), IMAGES, "head")
    assert float(random(IMAGES).mean(0).std()) < 1e-4
    assert model[-1].bias is None


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="random_model="):
        randomized(PlantedEvidence(), IMAGES)
    with pytest.raises(InputError, match="'head' or 'weights'"):
        randomized(black_box_of(), IMAGES, "tail")
    headless = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    with pytest.raises(InputError, match="no linear or convolutional layer"):
        randomized(TorchBlackBox(headless), IMAGES, "head")
