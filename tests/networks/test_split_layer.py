import pytest
import torch
from torch import nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.networks.layer_activations import read_feature_maps
from saliencykit.networks.partial_network import PartialNetwork
from saliencykit.networks.split_layer import choose_split_layer
from saliencykit.testing.unchanged import untouched
from saliencykit.training.cache import maps_until

SIZE = (3, 32, 32)


def photos(n=4, seed=0, side=32):
    small = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(small, size=(side, side), mode="bilinear")


def maps_of(black_box, images, feature_map):
    return read_feature_maps(black_box, images, [feature_map])[1][0]


def test_own_features_give_the_boxs_logits(trunk_black_box):
    black_box, images = trunk_black_box(), photos()
    partial_network = choose_split_layer(black_box, images)
    assert isinstance(partial_network, PartialNetwork)
    with torch.no_grad():
        assert torch.allclose(
            partial_network(maps_of(black_box, images, partial_network.feature_map), SIZE),
            black_box(images),
            atol=1e-5,
        )
        for count in (1, 3):
            assert torch.allclose(
                partial_network(
                    maps_of(black_box, images[:count], partial_network.feature_map), SIZE
                ),
                black_box(images[:count]),
                atol=1e-5,
            )


def test_the_cut_is_not_at_the_end(trunk_black_box):
    black_box, images = trunk_black_box(), photos()
    partial_network = choose_split_layer(black_box, images)
    assert partial_network.feature_map.side[0] >= 8
    assert not partial_network.feature_map.name.startswith(("more", "fc"))


def test_gradients_are_those_of_mixing_at_that_layer_with_a_plain_hook(trunk_black_box):
    black_box, images, others = trunk_black_box(), photos(), photos(seed=1)
    partial_network = choose_split_layer(black_box, images)
    mask = torch.rand(
        4, 1, *partial_network.feature_map.side, generator=torch.Generator().manual_seed(2)
    ).requires_grad_()
    with torch.no_grad():
        one, other = (
            maps_of(black_box, images, partial_network.feature_map),
            maps_of(black_box, others, partial_network.feature_map),
        )
    logits = partial_network(one * mask + other * (1 - mask), SIZE)
    grad = torch.autograd.grad(logits.square().sum(), mask)[0]

    def mix(module, given, output):
        return one * mask + other * (1 - mask)

    handle = black_box.model.get_submodule(partial_network.feature_map.name).register_forward_hook(
        mix
    )
    slow = black_box(images)
    slow_grad = torch.autograd.grad(slow.square().sum(), mask)[0]
    handle.remove()
    assert torch.allclose(logits, slow, atol=1e-5)
    assert torch.allclose(grad, slow_grad, atol=1e-4)
    assert grad.abs().sum() > 0


def test_layers_before_it_do_not_run(trunk_black_box):
    black_box, images = trunk_black_box(), photos()
    partial_network = choose_split_layer(black_box, images)
    inner = partial_network.black_box.module.stages[0][0]
    assert isinstance(inner, nn.Conv2d)
    inner.weight.data.fill_(float("nan"))
    assert torch.isfinite(
        partial_network(maps_of(black_box, images, partial_network.feature_map), SIZE)
    ).all()


def test_a_black_box_that_splits_its_batch(trunk_black_box):
    images = photos(5)
    for most in (1, 2):
        black_box = trunk_black_box(max_batch_size=most)
        partial_network = choose_split_layer(black_box, images)
        with torch.no_grad():
            assert torch.allclose(
                partial_network(maps_of(black_box, images, partial_network.feature_map), SIZE),
                black_box(images),
                atol=1e-5,
            )


def test_the_model_comes_back_as_it_was(trunk_black_box):
    black_box, images = trunk_black_box(), photos()
    black_box.model.train()
    with untouched("choose_split_layer", black_box.model, images=images):
        partial_network = choose_split_layer(black_box, images)
        partial_network(maps_of(black_box, images, partial_network.feature_map), SIZE)
        maps_until(black_box.optimized_for(images), images, partial_network.feature_map)


def test_the_maps_that_are_cached_are_those_that_it_takes(trunk_black_box):
    black_box, images = trunk_black_box(), photos()
    partial_network, many = choose_split_layer(black_box, images), black_box.optimized_for(images)
    with torch.no_grad():
        maps = maps_until(many, images, partial_network.feature_map)
        assert torch.allclose(partial_network(maps, SIZE), black_box(images), atol=1e-4)


def test_where_there_is_no_place_to_cut():
    class Dense(nn.Module):
        """Its end reads the pixels again."""

        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 1)
            self.last = nn.Linear(4 + 3, 3)

        def forward(self, x):
            y = self.second(self.first(x).relu())
            return self.last(torch.cat([y.mean((2, 3)), x.mean((2, 3))], 1))

    images = photos()
    assert choose_split_layer(TorchBlackBox(Dense()), images) is None
    assert (
        choose_split_layer(
            TorchBlackBox(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))), images
        )
        is None
    )


def test_a_model_that_deepcopy_cannot_copy(trunk_black_box):
    black_box, images = trunk_black_box(), photos()
    black_box.model.lock = (item for item in ())
    assert choose_split_layer(black_box, images) is not None


@pytest.mark.parametrize(
    "name",
    [
        "test_vit",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("test_resnet", "test_efficientnet")
        ),
    ],
)
def test_models_of_timm(name):
    timm = pytest.importorskip("timm")
    from saliencykit.black_boxes.timm import wrap_timm

    with torch.random.fork_rng():
        torch.manual_seed(0)
        black_box = wrap_timm(timm.create_model(name, num_classes=7))
    side = black_box.input_size[0]
    images = photos(3, side=side)
    with untouched("choose_split_layer", black_box.model, images=images):
        partial_network = choose_split_layer(black_box, images)
    assert partial_network is not None
    with torch.no_grad():
        got, wanted = (
            partial_network(
                maps_of(black_box, images, partial_network.feature_map), (3, side, side)
            ),
            black_box(images),
        )
    # tokens before the grid are the mean of those seen
    close = 1e-4 if partial_network.feature_map.layout != "tokens" else 0.2
    assert (got - wanted).abs().max() < close * max(1.0, float(wanted.abs().max()))
