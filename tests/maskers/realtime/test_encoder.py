import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.maskers.realtime.encoder import Features, StandaloneEncoder, TrunkEncoder
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.testing.black_boxes import Counting, PlantedEvidence
from saliencykit.testing.unchanged import untouched

FEATURE_MAPS = (
    FeatureMap("stages.0", "maps", 8, (16, 16)),
    FeatureMap("stages.2", "maps", 16, (4, 4)),
)


def test_the_trunk_encoder_gives_maps_and_logits_in_one_pass(net, photos):
    black_box, images = net("convolutional"), photos(3)
    passes = []
    handle = black_box.model.register_forward_pre_hook(
        lambda module, given: passes.append(len(given[0]))
    )
    trunk = TrunkEncoder(FEATURE_MAPS)
    features = trunk.encode(black_box, images)
    handle.remove()
    assert passes == [3]
    assert torch.equal(features.logits, black_box(images))
    assert [m.shape for m in features.maps] == [(3, 8, 16, 16), (3, 16, 4, 4)]
    assert features.size == (32, 32)
    assert (trunk.channels, trunk.sides, trunk.trained) == ((8, 16), ((16, 16), (4, 4)), False)
    assert list(trunk.parameters()) == []


def test_the_trunk_encoder_leaves_the_model_unchanged(net, photos):
    black_box = net("convolutional")
    with untouched("TrunkEncoder", black_box.model):
        TrunkEncoder(FEATURE_MAPS).encode(black_box, photos(2))


def test_layers_of_another_model_are_refused(net, photos):
    with pytest.raises(
        InputError, match=r"'stages.0' of \w+ has 8 channels, .* another model, with 9"
    ):
        TrunkEncoder((FeatureMap("stages.0", "maps", 9, (16, 16)),)).encode(
            net("convolutional"), photos(2)
        )
    with pytest.raises(InputError, match="no layer"):
        TrunkEncoder(FEATURE_MAPS).encode(net("channels-last"), photos(2))
    with pytest.raises(InputError, match="at least one feature map"):
        TrunkEncoder(())


def test_features_can_be_indexed_by_image():
    features = Features((torch.arange(4.0).view(4, 1, 1, 1),), torch.arange(8.0).view(4, 2), (8, 8))
    some = features.rows(torch.tensor([2, 0, 2]))
    assert some.maps[0].flatten().tolist() == [2, 0, 2]
    assert some.logits[:, 0].tolist() == [4, 0, 4]
    assert Features(features.maps, None, (8, 8)).rows(torch.tensor([1])).logits is None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"size": (16, 16)},
        {"size": (30, 44), "stem": 2, "widths": (4, 6), "depth": 1},
        {"size": (64, 64), "stem": 4, "widths": (4, 6, 8), "depth": 5, "channels_in": 1},
    ],
)
def test_the_standalone_encoder_knows_its_channels_and_sides(options):
    encoder = StandaloneEncoder(**options).eval()
    black_box = Counting(PlantedEvidence())
    features = encoder.encode(black_box, torch.rand(2, encoder.channels_in, *encoder.size))
    assert [(m.shape[1], tuple(m.shape[2:])) for m in features.maps] == list(
        zip(encoder.channels, encoder.sides, strict=True)
    )
    assert features.logits is None
    assert black_box.batch_sizes == []
    assert encoder.trained
    assert StandaloneEncoder(**encoder.options()).options() == encoder.options()


@pytest.mark.parametrize("options", [{"widths": (8, 0)}, {"depth": 0}, {"stem": 0}])
def test_bad_arguments_of_the_standalone_encoder_are_refused(options):
    with pytest.raises(InputError, match="all of them must be >= 1"):
        StandaloneEncoder(**options)
