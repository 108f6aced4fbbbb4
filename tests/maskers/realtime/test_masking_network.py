import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from saliencykit.core.errors import InputError
from saliencykit.core.map_placement import place_maps
from saliencykit.maskers.realtime.bottleneck_decoder import Bottleneck
from saliencykit.maskers.realtime.encoder import StandaloneEncoder, TrunkEncoder
from saliencykit.maskers.realtime.masking_network import MaskingNetwork, masking_network
from saliencykit.maskers.realtime.selector import ClassFilters
from saliencykit.maskers.realtime.unet_decoder import UNet
from saliencykit.testing.black_boxes import Counting, PlantedEvidence, QueryOnly
from saliencykit.testing.unchanged import untouched
from tests.helpers import centers, padded, seeded, spots

NAMES = ("convolutional", "squeezed", "channels-last", "class-token", "mean-token", "flattened")
LIKE_OTHERS = ("squeezed", "mean-token")  # "convolutional" and "class-token"


def randomized(network, seed=3):
    """With random weights in the decoder, as after some training."""
    with torch.no_grad():
        last = network.decoder.last
        last.weight.copy_(0.3 * torch.randn(last.weight.shape, generator=seeded(seed)))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(
                    0.1 * torch.randn(module.running_mean.shape, generator=seeded(seed))
                )
    return network.eval()


@pytest.fixture(
    params=[
        *(pytest.param(name, marks=[pytest.mark.slow] * (name in LIKE_OTHERS)) for name in NAMES),
        "own",
    ]
)
def made(request, net, photos):
    """A black box, a network for it, and images."""
    if request.param == "own":
        black_box = PlantedEvidence()
        images, _ = black_box.examples(4, generator=seeded())
        return black_box, masking_network(black_box, images), images
    black_box, images = net(request.param), photos(4)
    return black_box, masking_network(black_box, images), images


def masks_of(black_box, network, images, labels, confidence=0.0):
    with torch.no_grad():
        return network(network.encoder.encode(black_box, images), labels, confidence)


# the untrained network


def test_before_training_the_mask_is_the_gate_at_its_place(made):
    black_box, network, images = made
    labels = black_box(images).argmax(1)
    with torch.no_grad():
        features = network.encoder.encode(black_box, images)
        mask, presence = network(features, labels)
        gate = network.selector(features.maps[-1], labels)
    size, coarse = mask.shape[2:], gate.shape[2:]
    pixels = [off * s / c for off, s, c in zip(network.decoder.offset, size, coarse, strict=True)]
    large = place_maps(gate.sigmoid(), tuple(size), tuple(pixels))
    assert torch.allclose(mask, large / (1 + 1e-4), atol=1e-6)
    assert torch.equal(presence, gate.amax((1, 2, 3)))


@pytest.mark.parametrize("sides", [(0, 1, 0, 1), (1, 0, 0, 1)])
def test_before_training_a_mirrored_image_gets_the_mirrored_mask_however_layers_are_padded(sides):
    black_box, (images, _) = padded(sides), spots()
    network, labels = masking_network(black_box, images), torch.zeros(4, dtype=torch.int64)
    apart = []
    for offset in ((0.0, 0.0), network.decoder.offset):
        network.decoder.offset = offset
        mask, across = (
            masks_of(black_box, network, each, labels)[0] for each in (images, images.flip(3))
        )
        apart.append(float((centers(mask) - centers(across.flip(3))).abs().max()))
    assert apart[1] < 0.5 * apart[0]


def test_before_training_the_mask_of_the_top_class_is_neither_empty_nor_full(made):
    black_box, network, images = made
    mask, _ = masks_of(black_box, network, images, black_box(images).argmax(1))
    assert torch.isfinite(mask).all()
    assert 0 <= mask.min() <= mask.max() <= 1
    if not network.selector.trained:
        assert 0.001 < mask.mean() < 0.999


def test_filters_are_trained_only_where_they_are_not_exactly_the_heads(net, photos):
    images = photos(4)
    for name, trained in [
        ("convolutional", False),
        ("squeezed", False),
        ("class-token", True),
        ("flattened", True),
    ]:
        network = masking_network(net(name), images)
        assert isinstance(network.encoder, TrunkEncoder)
        assert network.selector.trained is trained


# invariants


def test_a_mask_is_the_same_alone_and_in_a_batch(made):
    black_box, network, images = made
    labels = torch.tensor([0, 1, 2, 3])
    batch, presence = masks_of(black_box, randomized(network), images, labels)
    for row in range(4):
        alone, own = masks_of(black_box, network, images[row : row + 1], labels[row : row + 1])
        assert torch.allclose(alone[0], batch[row], atol=1e-5)
        assert torch.allclose(own[0], presence[row], atol=1e-4)


def test_masks_of_several_classes_equal_those_of_single_classes(made):
    black_box, network, images = made
    labels = torch.tensor([[0, 1, 2], [3, 3, 0], [2, 1, 0], [1, 0, 3]])
    several, presence = masks_of(black_box, randomized(network), images, labels)
    assert several.shape[:2] == presence.shape == (4, 3)
    for column in range(3):
        one, own = masks_of(black_box, network, images, labels[:, column])
        assert torch.allclose(several[:, column], one[:, 0], atol=1e-5)
        assert torch.allclose(presence[:, column], own, atol=1e-5)


def test_the_folded_decoder_gives_the_same_masks(made):
    black_box, network, images = made
    labels = torch.tensor([0, 1, 2, 3])
    twin = MaskingNetwork(network.encoder, network.selector, randomized(network).decoder.folded())
    assert torch.allclose(
        masks_of(black_box, twin, images, labels)[0],
        masks_of(black_box, network, images, labels)[0],
        atol=1e-4,
    )


@given(confidence=st.floats(-30, 30), step=st.floats(0, 10), seed=st.integers(0, 3))
def test_masks_are_between_0_and_1_and_decrease_with_the_confidence(confidence, step, seed):
    black_box = PlantedEvidence()
    images, labels = black_box.examples(2, generator=seeded(seed), size=8)
    network = randomized(
        masking_network(
            black_box, images, encoder=StandaloneEncoder(widths=(4, 6), depth=1, size=(8, 8))
        ),
        seed,
    )
    low, _ = masks_of(black_box, network, images, labels, confidence)
    high, _ = masks_of(black_box, network, images, labels, confidence + step)
    assert 0 <= low.min() <= low.max() <= 1
    assert bool((high <= low + 1e-6).all())


# making one


def test_the_model_is_left_unchanged(net, photos):
    for name in NAMES:
        black_box, images = net(name), photos(4)
        black_box.model.train()
        with untouched("masking_network", black_box.model, images=images):
            network = masking_network(black_box, images)
            masks_of(black_box, network, images, torch.tensor([0, 1, 2, 3]))


def test_the_model_is_left_unchanged_when_it_raises(net, photos):
    black_box = net("flattened")
    black_box.model.classifier[2] = nn.Linear(23, 5)
    with untouched("masking_network", black_box.model), pytest.raises(InputError):
        masking_network(black_box, photos(4))


def test_the_same_seed_makes_the_same_network(net, photos):
    images = photos(4)
    one, same, other = (
        masking_network(net("flattened"), images, seed=seed).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("side", "stride", "expected"),
    [(16, None, 16), (64, None, 32), (160, None, 40), (64, 8, 8), (20, 3, 7)],
)
def test_the_resolution_of_masks(side, stride, expected):
    black_box = PlantedEvidence()
    images, labels = black_box.examples(2, generator=seeded(), size=side)
    network = masking_network(black_box, images, mask_stride=stride)
    mask, _ = masks_of(black_box, network, images, labels)
    assert mask.shape == (2, 1, expected, expected)
    assert network.decoder.side == (expected, expected)


def test_rectangular_images():
    black_box = PlantedEvidence()
    images, labels = black_box.examples(2, generator=seeded(), size=(20, 36))
    mask, _ = masks_of(black_box, masking_network(black_box, images), images, labels)
    assert mask.shape == (2, 1, 20, 36)


def test_auto_uses_the_trunk_where_the_black_box_exposes_one(net, photos):
    black_box = PlantedEvidence()
    images, _ = black_box.examples(2, generator=seeded())
    assert isinstance(masking_network(black_box, images).encoder, StandaloneEncoder)
    assert isinstance(masking_network(QueryOnly(black_box), images).encoder, StandaloneEncoder)
    assert isinstance(masking_network(net("convolutional"), photos(2)).encoder, TrunkEncoder)
    assert isinstance(
        masking_network(net("convolutional"), photos(2), encoder="own").encoder, StandaloneEncoder
    )


def test_a_black_box_with_a_batch_limit_of_one(net, photos):
    images = photos(4)
    for name in ("convolutional", "flattened"):
        network = masking_network(net(name, max_batch_size=1), images)
        assert isinstance(network.encoder, TrunkEncoder)


def test_a_network_is_made_under_no_grad_and_in_inference_mode(net, photos):
    with torch.no_grad():
        masking_network(net("flattened"), photos(4))
    black_box = net("flattened")
    with torch.inference_mode():
        network = masking_network(black_box, photos(4))
    assert not any(p.is_inference() for p in network.parameters())


def test_the_papers_encoder_comes_with_the_papers_decoder(monkeypatch):
    timm = pytest.importorskip("timm")
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda name, pretrained, **rest: create("test_resnet", **rest)
    )
    black_box = PlantedEvidence()
    images, labels = black_box.examples(2, generator=seeded(), size=64)
    network = masking_network(black_box, images, encoder="paper", mask_stride=4)
    assert isinstance(network.decoder, Bottleneck)
    assert masks_of(black_box, network, images, labels)[0].shape == (2, 1, 20, 20)
    assert isinstance(masking_network(black_box, images, encoder=network.encoder).decoder, UNet)


def test_parts_can_be_replaced():
    class Everywhere(ClassFilters):
        def forward(self, coarse, labels):
            return super().forward(coarse, labels) * 0 + 9.0

    black_box = PlantedEvidence()
    images, labels = black_box.examples(2, generator=seeded())
    own = masking_network(black_box, images)
    network = MaskingNetwork(
        own.encoder, Everywhere(own.selector.weight, own.selector.bias), own.decoder
    )
    assert masks_of(black_box, network.eval(), images, labels)[0].min() > 0.99


def test_bad_arguments_are_refused():
    black_box = Counting(PlantedEvidence())
    images, labels = black_box.black_box.examples(2, generator=seeded())
    with pytest.raises(InputError, match="whole number >= 1"):
        masking_network(black_box, images, mask_stride=0)
    with pytest.raises(InputError, match="does not expose a torch module"):
        masking_network(black_box, images, encoder="trunk")
    with pytest.raises(InputError, match="expected 'auto'"):
        masking_network(black_box, images, encoder="big")
    network = masking_network(black_box, images)
    with pytest.raises(InputError, match=r"takes labels \(2,\) or"):
        masks_of(black_box, network, images, labels[:1])


# models of timm


@pytest.mark.parametrize(
    "name",
    [
        "test_resnet",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("test_vit", "test_convnext", "test_efficientnet")
        ),
    ],
)
def test_models_of_timm(name):
    timm = pytest.importorskip("timm")
    from saliencykit.black_boxes.timm import wrap_timm

    with torch.random.fork_rng():
        torch.manual_seed(0)
        black_box = wrap_timm(timm.create_model(name, num_classes=7))
    images = torch.rand(2, 3, *black_box.input_size, generator=seeded())
    with untouched("masking_network", black_box.model, images=images):
        network = masking_network(black_box, images)
        mask, presence = masks_of(black_box, network, images, torch.tensor([[0, 6], [1, 2]]))
    assert mask.shape == (2, 2, 40, 40)
    assert torch.isfinite(presence).all()
    assert 0 <= mask.min() <= mask.max() <= 1
