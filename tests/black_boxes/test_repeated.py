"""Models that answer differently each time: noticed, said, and averaged if wanted."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from saliencykit import FunctionBlackBox, TorchBlackBox, explain, explain_dataset
from saliencykit.black_boxes.repeated import RepeatedQueries, averaged, unsteadiness
from saliencykit.core.errors import InputError, ReliabilityWarning
from saliencykit.demo import demo_black_box, demo_image
from saliencykit.explanation.explain_images import default_masker
from saliencykit.maskers.optimization.iterative import Iterative
from saliencykit.testing.black_boxes import Counting, PlantedEvidence
from tests.helpers import seeded


class DropoutLeftOn(nn.Module):
    def forward(self, features):
        return nn.functional.dropout(features, 0.5, training=True)


class AlwaysDropout(nn.Module):
    """A classifier whose dropout is left on by design."""

    def __init__(self, classes=3):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv, self.head = nn.Conv2d(3, 16, 3, stride=2), nn.Linear(16, classes)

    def forward(self, images):
        features = self.conv(images).relu().mean((2, 3))
        return self.head(DropoutLeftOn()(features)) * 8


def doubted(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(w.message) for w in caught if w.category is ReliabilityWarning]


def dropout_black_box(**options):
    return TorchBlackBox(AlwaysDropout(), **options)


def test_dropout_that_is_left_on_is_noticed_and_a_plain_model_is_not():
    image = torch.rand(1, 3, 16, 16, generator=seeded())
    assert unsteadiness(dropout_black_box(), image) == "random"
    assert unsteadiness(PlantedEvidence(), image) is None


@pytest.mark.parametrize("output", ["softmax", "sigmoid", "score"])
def test_the_mean_of_the_probabilities_is_that_of_single_queries(output):
    black_box, image = (
        dropout_black_box(output=output),
        torch.rand(2, 3, 16, 16, generator=seeded()),
    )
    read = {
        "softmax": lambda z: np.exp(z) / np.exp(z).sum(-1, keepdims=True),
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
        "score": lambda z: z,
    }[output]
    single = []
    for number in range(7):
        torch.manual_seed(number)
        single.append(read(black_box(image).detach().double().numpy()))
    mean = read(RepeatedQueries(black_box, 7)(image).detach().double().numpy())
    np.testing.assert_allclose(mean, np.mean(single, 0), atol=1e-6)


def test_explain_says_it_once_and_not_where_queries_are_averaged():
    images = torch.rand(3, 3, 16, 16, generator=seeded())
    model = AlwaysDropout()

    def run(**options):
        return doubted(lambda: explain(model, images, masker="rise:samples=16", **options))

    said = [message for message in run() if "answers the same query differently" in message]
    assert len(said) == 1
    assert "repeats=10 (--repeats 10)" in said[0]
    assert not any("differently" in message for message in run(repeats=4))


def test_a_run_over_a_data_set_says_it_once(tmp_path):
    pairs = [(image, 0) for image in torch.rand(5, 3, 16, 16, generator=seeded())]
    options = {"masker": "center-box", "batch_size": 2}
    said = doubted(
        lambda: explain_dataset(dropout_black_box(), pairs, output_dir=tmp_path / "a", **options)
    )
    assert sum("differently" in message for message in said) == 1
    explain_dataset(dropout_black_box(), pairs, output_dir=tmp_path / "b", repeats=3, **options)
    with pytest.raises(InputError, match="other settings: model"):
        explain_dataset(dropout_black_box(), pairs, output_dir=tmp_path / "b", **options)


def test_a_model_that_is_known_to_answer_alike_is_not_tested_again_until_it_changes():
    calls, image = [], torch.rand(1, 3, 16, 16, generator=seeded())
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4), nn.Dropout()).eval()
    black_box = TorchBlackBox(model, size=16)
    model[0].register_forward_hook(lambda *call: calls.append(1))
    counts = []
    for turn in range(4):
        if turn == 2:
            model[2] = DropoutLeftOn()
        before = len(calls)
        texts = doubted(lambda: explain(black_box, image, 1, masker="center-box"))
        counts.append(len(calls) - before)
        assert any("differently" in text for text in texts) == (turn >= 2)
    assert counts[0] - counts[1] == 3
    assert min(counts[2:]) > counts[1]  # one that draws is told of each time


def test_a_service_that_samples_is_noticed_and_averaged():
    draws = np.random.default_rng(0)

    def service(images):
        logits = np.stack([images.mean((1, 2, 3)) * 4, np.zeros(len(images))], 1)
        return logits + draws.normal(0, 0.5, logits.shape)

    black_box, image = (
        FunctionBlackBox(service, probabilities=False),
        torch.rand(1, 3, 8, 8, generator=seeded()),
    )
    assert unsteadiness(black_box, image) == "random"
    spread = {
        n: torch.stack([averaged(black_box, n)(image) for _ in range(20)]).std(0).max()
        for n in (1, 25)
    }
    assert spread[25] < 0.5 * spread[1]


def test_the_same_seed_gives_the_same_mask_although_the_model_draws():
    image, state = torch.rand(1, 3, 16, 16, generator=seeded()), torch.random.get_rng_state()
    masks = []
    for seed in (1, 2):
        torch.manual_seed(seed)  # the caller's, which must not matter
        masks.append(explain(dropout_black_box(), image, 0, masker="occlusion", repeats=5).mask)
    assert torch.equal(*masks)
    torch.random.set_rng_state(state)


@pytest.mark.parametrize("masker", ["rise:samples=16", "occlusion"])
def test_a_deterministic_model_has_the_same_mask_with_repeats(masker):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
        )
    image = torch.rand(1, 3, 16, 16, generator=seeded())
    once, thrice = (explain(net, image, 1, masker=masker, repeats=n) for n in (1, 3))
    torch.testing.assert_close(once.mask, thrice.mask, atol=1e-3, rtol=0)
    torch.testing.assert_close(once.kept, thrice.kept, atol=1e-5, rtol=0)


def test_maskers_that_read_layers_say_that_they_cannot():
    with pytest.raises(InputError, match="RepeatedQueries does not expose"):
        explain("demo", demo_image(), masker="cam", repeats=2)
    assert isinstance(default_masker(RepeatedQueries(demo_black_box(), 2)), Iterative)


def test_queries_keep_the_grad_mode():
    black_box, image = RepeatedQueries(dropout_black_box(), 2), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert not black_box(image).requires_grad
    assert black_box(image.requires_grad_()).requires_grad


def test_every_query_is_repeated_in_the_optimized_copy_too():
    counting = Counting(PlantedEvidence())
    repeated, image = RepeatedQueries(counting, 4), torch.rand(1, 3, 16, 16)
    repeated(image)
    repeated.optimized_for(image)(image)
    repeated.without_preprocessing()(image)
    assert counting.num_images >= 8
    assert "repeats=4" in repr(repeated)


@pytest.mark.parametrize("repeats", [0, -1, 1.5])
def test_wrong_numbers_are_refused(repeats):
    with pytest.raises(InputError, match="repeats="):
        explain(PlantedEvidence(), torch.rand(1, 3, 16, 16), 0, repeats=repeats)
