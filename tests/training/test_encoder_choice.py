import numpy as np
import pytest
import torch
from torch import nn

from saliencykit.black_boxes.function import FunctionBlackBox
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import GradientError, InputError, ReliabilityWarning
from saliencykit.explanation.explain_images import explain
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly, iou
from saliencykit.testing.unchanged import untouched
from saliencykit.training.fit_masker import fit
from tests.helpers import seeded

pytest.importorskip("accelerate")
FEW = {"steps": 2, "batch_size": 4, "views_per_image": 1}


class Colors(nn.Module):
    """Another network than the black box: it knows colors, and where they are."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layers = [nn.Conv2d(3, 48, 3, padding=1), nn.ReLU(), nn.Conv2d(48, 96, 3, 2, 1)]
            self.features = nn.Sequential(*layers, nn.ReLU())
            self.head = nn.Linear(96, 96)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


def colors():
    return TorchBlackBox(Colors(), mean=(0.5,) * 3, std=(0.1,) * 3)


def examples(count, seed=0, size=16):
    return PlantedEvidence().examples(count, generator=seeded(seed), size=size)


def as_function(size=16):
    """Planted evidence as a function of arrays, with probabilities."""

    def probabilities(images):
        tensors = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
        return PlantedEvidence()(tensors).softmax(1).numpy()

    return FunctionBlackBox(probabilities, size=size)


@pytest.mark.slow  # in the quick tests tests/maskers/realtime/test_pretrained_encoder.py
@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_any_network_of_timm_reads_the_images_of_any_black_box(name, tmp_path):
    pytest.importorskip("timm")
    images, _ = examples(8)
    masker = fit(PlantedEvidence(), images, encoder=f"timm:{name},pretrained=false", **FEW)
    logits, mask = masker.predict(images[:2], budget=(0.1, 0.3))
    assert (logits.shape, mask.shape) == ((2, 4), (2, 2, 16, 16))
    path = masker.save(tmp_path / "masker.safetensors")
    again = RealTimeMasker.load(path, PlantedEvidence())
    assert (again.predict(images[:2])[1] - masker.predict(images[:2])[1]).abs().mean() < 0.01
    assert path.stat().st_size < 300_000, "the network's weights are not in the file"


def test_a_function_is_learned_through_its_encoder_and_explained_without_a_stand_in():
    black_box, network = as_function(), colors()
    images, _ = examples(24)
    news = []
    with untouched("fit", network.model):
        masker = fit(black_box, images, encoder=network, on_message=news.append, **FEW)
    facts = masker.metadata["training"]["stand_in"]
    assert facts["queries"] == 3 * 20
    assert facts["of"] == "the top classes of held-out images"
    assert any("60 queries" in line for line in news)
    assert explain(black_box, images[:1], masker=masker).mask.shape == (1, 1, 16, 16)


def test_a_poor_stand_in_is_warned_of_and_a_number_is_judged_by_its_variance():
    def noise(arrays):  # a number that has nothing to do with the image
        return np.sin(1e4 * arrays.reshape(len(arrays), -1).sum(1, keepdims=True))

    black_box = FunctionBlackBox(noise, size=16, output="score", num_classes=1)
    with pytest.warns(ReliabilityWarning, match=r"predict \d+% of the variance .* fit_surrogate"):
        masker = fit(black_box, examples(24)[0], encoder=colors(), **FEW)
    assert masker.metadata["training"]["stand_in"]["agreement"] < 0.8


@pytest.mark.parametrize("encoder", [5, None, len])
def test_an_encoder_that_is_none_is_refused_with_what_is_expected(encoder):
    with pytest.raises(InputError, match=r"encoder=.*expected 'auto'.*'timm:resnet18'"):
        fit(PlantedEvidence(), examples(8)[0], encoder=encoder, **FEW)


def test_without_a_network_a_query_only_model_is_refused_with_both_ways():
    with pytest.raises(GradientError, match=r"encoder='timm:resnet18'.* fit_surrogate"):
        fit(QueryOnly(PlantedEvidence()), examples(8)[0], **FEW)


@pytest.mark.slow
@pytest.mark.parametrize("query_only", [False, True])
def test_with_another_network_as_encoder_it_finds_the_planted_evidence(query_only):
    black_box = as_function() if query_only else PlantedEvidence()
    images, _ = examples(200)
    masker = fit(black_box, images, encoder=colors(), steps=100, area=0.08)
    images, labels = examples(64, seed=9)
    _, mask = masker.predict(images, labels)
    found = iou(mask, PlantedEvidence().evidence(images, labels)).mean().item()
    assert found > 0.5, found
    _, wrong = masker.predict(images, (labels + 1) % 4)
    assert wrong.mean() < 0.3 * mask.mean()
