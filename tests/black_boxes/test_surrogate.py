import pytest
import torch
from PIL import Image
from torch import nn

from saliencykit.black_boxes.preprocessing_inference import Preprocessing, infer_preprocessing
from saliencykit.black_boxes.surrogate import Surrogate
from saliencykit.black_boxes.surrogate_network import SurrogateNetwork
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.explanation.explain_images import explain
from saliencykit.networks.model_fingerprint import fingerprint
from saliencykit.testing import check_black_box
from saliencykit.testing.black_boxes import PlantedEvidence


def surrogate(**options):
    torch.manual_seed(1)
    network = SurrogateNetwork(4, (16, 16), widths=(8, 12))
    black_box = TorchBlackBox(network, mean=(0.5,) * 3, std=(0.25,) * 3, size=16)
    return Surrogate(black_box, 4, (16, 16), metadata={"black_box": "Service()"}, **options)


def test_it_keeps_the_contract():
    check_black_box(surrogate(preprocessing=Preprocessing((16, 16), "crop", 1.0, "bilinear", 3)))


def test_it_is_a_black_box_with_gradients_and_layers():
    mine = surrogate()
    images = torch.rand(2, 3, 16, 16, requires_grad=True)
    mine(images)[:, 0].sum().backward()
    assert images.grad.abs().sum() > 0
    assert mine.module is mine.model is mine.source_module
    assert explain(mine, images.detach(), masker="grad-cam").mask.shape == (2, 1, 16, 16)
    assert repr(mine) == "Surrogate(SurrogateNetwork, of Service())"


def test_many_evaluations_answer_alike_and_keep_the_fingerprint():
    mine, images = surrogate(), torch.rand(3, 3, 16, 16)
    many = mine.optimized_for(images)
    with torch.no_grad():
        assert torch.allclose(many(images), mine(images), atol=1e-5)
    assert many.optimized_for(images) is many
    assert fingerprint(many) == fingerprint(mine)


def test_tensors_are_raw_pixels_as_the_black_box_takes_them():
    assert surrogate().baseline_color is None  # the network's own mean is nobody's business
    assert (
        explain(surrogate(), torch.rand(1, 3, 16, 16), masker="gradient").provenance["inputs"]
        == "raw"
    )
    assert surrogate().without_preprocessing().baseline_color is None


def test_images_are_prepared_as_the_black_box_prepares_them():
    image = Image.effect_noise((50, 30), 60).convert("RGB")
    other = TorchBlackBox(nn.Flatten(), mean=(0.1,) * 3, std=(1,) * 3, size=16, fit="pad")
    wanted = other.prepare(image)[0]
    assert torch.equal(
        surrogate(preprocessing=infer_preprocessing(other, (16, 16), 3)).prepare(image)[0], wanted
    )
    assert torch.equal(surrogate(prepared_by=other).prepare(image)[0], wanted)
    with pytest.raises(InputError, match="does not say how to prepare"):
        surrogate().prepare(image)
    with pytest.raises(InputError, match="does not say how to prepare"):
        surrogate(prepared_by=PlantedEvidence()).prepare(image)
