import pytest
import torch

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.maskers.realtime.masking_network import masking_network
from saliencykit.maskers.realtime.pretrained_encoder import PretrainedEncoder
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.networks.model_fingerprint import fingerprint
from saliencykit.testing.black_boxes import Counting, PlantedEvidence
from saliencykit.testing.unchanged import untouched
from tests.helpers import seeded

timm = pytest.importorskip("timm")
RESNET, VIT = "timm:test_resnet,pretrained=false", "timm:test_vit,pretrained=false"


def images_of(count, side=64):
    return torch.rand(count, 3, side, side, generator=seeded())


@pytest.mark.parametrize(
    ("text", "sides"),
    [(RESNET, ((20, 20), (10, 10), (5, 5))), (VIT, ((10, 10),) * 3)],
)
def test_networks_of_timm_read_images_of_another_size(text, sides):
    with untouched("PretrainedEncoder"):
        encoder = PretrainedEncoder(text, (64, 64))
    black_box = Counting(PlantedEvidence())
    features = encoder.train().encode(black_box, images_of(2))
    assert encoder.input_size == (160, 160), "its own size"
    assert [(m.shape[1], tuple(m.shape[2:])) for m in features.maps] == list(
        zip(encoder.channels, encoder.sides, strict=True)
    )
    assert encoder.sides == sides
    assert (features.size, features.logits, black_box.batch_sizes) == ((64, 64), None, [])
    assert not list(encoder.parameters())
    assert not encoder.state_dict()
    assert not any(m.requires_grad for m in features.maps)
    known = {"feature_maps": encoder.feature_maps, "fingerprint": encoder.fingerprint}
    again = PretrainedEncoder(text, (64, 64), **known).encode(black_box, images_of(2))
    assert all(torch.equal(a, b) for a, b in zip(features.maps, again.maps, strict=True))


def test_images_are_resized_and_normalized_as_the_network_wants_them():
    encoder = PretrainedEncoder(RESNET, (64, 64))
    model = timm.create_model("test_resnet", num_classes=0).eval()
    model.load_state_dict(encoder.network.module.state_dict())
    resized = torch.nn.functional.interpolate(images_of(1), (160, 160), mode="bilinear")
    mean, std = (
        torch.tensor(model.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std")
    )
    with torch.no_grad():
        expected = model.forward_features((resized - mean) / std)
    got = encoder.encode(PlantedEvidence(), images_of(1)).maps[-1]
    assert torch.allclose(got, expected, atol=1e-4)


@pytest.mark.slow
def test_a_network_for_large_images_is_rebuilt_for_smaller_ones():
    encoder = PretrainedEncoder("timm:vit_tiny_patch16_384,pretrained=false", (64, 64))
    assert encoder.input_size == (224, 224)
    assert encoder.sides == ((14, 14),) * 3


def test_a_classifier_of_your_own_is_an_encoder_and_stays_as_it_is(net, photos):
    black_box = net("convolutional")
    with untouched("PretrainedEncoder", black_box.model):
        encoder = PretrainedEncoder(black_box, (48, 48))
        maps = encoder.double().float().encode(PlantedEvidence(), photos(2, side=48)).maps
    assert [tuple(m.shape[1:]) for m in maps] == [(8, 16, 16), (12, 8, 8), (16, 4, 4)]
    assert encoder.fingerprint == fingerprint(black_box)


@pytest.mark.parametrize("own", [True, False])
def test_a_saved_masker_names_its_network_and_knows_its_weights(own, net, tmp_path):
    network = net("convolutional") if own else RESNET
    black_box, images = PlantedEvidence(), images_of(4)
    made = masking_network(black_box, images, encoder=PretrainedEncoder(network, (64, 64)))
    masker = RealTimeMasker(made).bind(black_box)
    path = masker.save(tmp_path / "masker.safetensors")
    given = {"encoder": network} if own else {}
    again = RealTimeMasker.load(path, black_box, **given)
    assert (masker.predict(images)[1] - again.predict(images)[1]).abs().max() < 0.02
    other = net("convolutional", seed=1)
    with pytest.raises(InputError, match="has other weights than the one that this masker"):
        RealTimeMasker.load(path, black_box, encoder=other)
    if own:
        with pytest.raises(InputError, match=r"a network of your own, .*load\(path, encoder="):
            RealTimeMasker.load(path, black_box)


def test_weights_that_cannot_be_had_are_named_with_what_to_do(tmp_path, monkeypatch):
    black_box, images = PlantedEvidence(), images_of(4)
    masker = RealTimeMasker(masking_network(black_box, images, encoder=RESNET)).bind(black_box)
    path = masker.save(tmp_path / "masker.safetensors")

    def offline(*_, **__):
        raise OSError("offline")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match=r"masker.safetensors.* cannot be used: .*offline.*FILE"):
        RealTimeMasker.load(path)


@pytest.mark.parametrize("name", ["no_such_net", "hf-hub:some/body", "test_vit,checkpoint=x"])
def test_an_unknown_network_is_refused(name):
    with pytest.raises(InputError, match=name.split(",")[0]):
        PretrainedEncoder(f"timm:{name}")


def test_its_class_filters_follow_the_black_box_before_training(net, photos):
    black_box, images = net("convolutional"), photos(64)
    network = masking_network(black_box, images, encoder=PretrainedEncoder(black_box, (32, 32)))
    coarse = network.encoder.encode(black_box, images).maps[-1]
    logits, expected = network.selector.class_logits(coarse), black_box(images)
    expected = expected - expected.mean(1, keepdim=True)
    assert ((logits - expected).square().mean() / expected.square().mean()) < 0.1


def test_a_black_box_without_a_module_is_no_encoder():
    with pytest.raises(InputError, match="does not expose a torch module"):
        PretrainedEncoder(PlantedEvidence(), (16, 16))


def test_a_black_box_takes_its_own_size(net):
    black_box = net("convolutional")
    plain = TorchBlackBox(black_box.model, mean=black_box.mean, std=black_box.std)
    assert PretrainedEncoder(plain, (48, 40)).input_size == (48, 40)
