"""The layer that Grad-CAM reads: which one it is, that its maps lie over the image, and what is
said where there is none.
"""

import gc
import weakref

import pytest
import torch
from torch import Generator, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import GradientError, InputError
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.layer_activations import logits_and_activations, read_feature_maps
from saliencykit.networks.target_layer import find_target_layer
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.testing.unchanged import untouched
from tests.helpers import fixed


def photos(side=32, n=2):
    return torch.rand(n, 3, side, side, generator=Generator().manual_seed(0))


class Transformer(nn.Module):
    """Tokens of 4 x 4 pixels, a class token unless pooled; `shuffled` tokens do not stand in the
    order of the image.
    """

    def __init__(self, *, pooled=False, shuffled=False):
        super().__init__()
        self.pooled, self.shuffled = pooled, shuffled
        self.patches = nn.Linear(48, 16) if shuffled else nn.Conv2d(3, 16, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.norm1 = nn.LayerNorm(16)
        self.qkv = nn.Linear(16, 48)
        self.mlp = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16), nn.GELU())
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        if self.shuffled:
            x = nn.functional.unfold(x, 4, stride=4).transpose(1, 2)
            x = self.patches(x[:, torch.randperm(x.shape[1], generator=Generator().manual_seed(0))])
        else:
            x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + (q @ k.mT / 4).softmax(-1) @ v
        x = self.norm(x + self.mlp(x))
        return self.head(x[:, 1:].mean(1) if self.pooled else x[:, 0])


class Shared(nn.Module):
    """Its last layer is used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.block, self.act, self.head = (
            nn.Conv2d(3, 4, 3, stride=2),
            nn.Conv2d(4, 4, 3),
            nn.GELU(),
            nn.Linear(4, 3),
        )

    def forward(self, x):
        return self.head(self.act(self.block(self.act(self.block(self.first(x))))).mean((2, 3)))


def convolutional(*last):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 6, 3),
        nn.ReLU(inplace=True),
        *last,
    )


@pytest.mark.parametrize(
    ("build", "name", "layout", "side", "prefix"),
    [
        (
            lambda: convolutional(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)),
            "3",
            "maps",
            (13, 13),
            0,
        ),
        (
            lambda: convolutional(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(216, 5)),
            "3",
            "maps",
            (13, 13),
            0,
        ),  # pooling forgets
        (
            lambda: convolutional(nn.Conv2d(6, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            "3",
            "maps",
            (13, 13),
            0,
        ),  # logits
        (
            lambda: convolutional(
                nn.Conv2d(6, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
            ),
            "3",
            "maps",
            (13, 13),
            0,
        ),
        (Transformer, "norm1", "tokens", (8, 8), 1),
        (lambda: Transformer(pooled=True), "norm", "tokens", (8, 8), 1),
        (Shared, "act", "maps", (11, 11), 0),
    ],
)
def test_the_last_layer_that_is_a_map_and_moves_the_answer(build, name, layout, side, prefix):
    model = fixed(build)
    feature_map = find_target_layer(TorchBlackBox(model), photos())
    assert (feature_map.name, feature_map.layout, feature_map.side, feature_map.prefix) == (
        name,
        layout,
        side,
        prefix,
    )


def test_channels_last():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.norm, self.head = (
                nn.Conv2d(3, 6, 4, stride=4),
                nn.LayerNorm(6),
                nn.Linear(6, 3),
            )

        def forward(self, x):
            return self.head(self.norm(self.stem(x).permute(0, 2, 3, 1)).mean((1, 2)))

    feature_map = find_target_layer(TorchBlackBox(fixed(Last)), photos())
    assert (feature_map.name, feature_map.layout, feature_map.side) == ("norm", "last", (8, 8))


def test_a_pool_with_weights_is_a_layer_like_others():
    class PoolFormer(nn.Conv2d):
        """Called after a pool, but with weights of its own."""

    feature_map = find_target_layer(
        TorchBlackBox(
            fixed(lambda: convolutional(PoolFormer(6, 6, 3), nn.Flatten(), nn.Linear(726, 4)))
        ),
        photos(),
    )
    assert feature_map.name == "4"


def test_dropout_behind_a_layer_is_not_the_layer():
    net = fixed(
        lambda: convolutional(
            nn.Dropout(), nn.Conv2d(6, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
    )
    assert find_target_layer(TorchBlackBox(net), photos()).name == "3"


def test_maps_of_more_than_half_the_side_count_in_small_images_or_when_named():

    def for_side(side):
        convolutions = (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
        head = nn.Linear(4 * (side - 4) ** 2, 3)
        return TorchBlackBox(fixed(lambda: nn.Sequential(*convolutions, nn.Flatten(), head)))

    assert find_target_layer(for_side(16), photos(16)).side == (12, 12)
    with pytest.raises(InputError, match="passes a gradient"):
        find_target_layer(for_side(72), photos(72, 1))
    assert find_target_layer(for_side(72), photos(72, 1), "3").side == (68, 68)


@pytest.mark.parametrize(
    "build", [Transformer, lambda: convolutional(nn.Flatten(), nn.Linear(1014, 5))]
)
def test_a_bright_patch_lights_up_its_place(build):
    black_box, images = TorchBlackBox(fixed(build)), photos(n=1)
    feature_map = find_target_layer(black_box, images)
    for y, x in ((4, 8), (24, 16), (12, 28)):
        bright = images.clone()
        bright[:, :, y : y + 4, x : x + 4] = 1
        with torch.no_grad():
            _, (maps,) = read_feature_maps(black_box, torch.cat([images, bright]), [feature_map])
        change = (maps[1] - maps[0]).abs().sum(0)
        change = change / change.sum()
        for side, dim, pixel in zip(feature_map.side, (1, 0), (y, x), strict=True):
            center = (change.sum(dim) * (torch.arange(side) + 0.5)).sum() * 32 / side
            assert abs(float(center) - pixel - 2) <= 4


def test_tokens_in_another_order_than_the_image_are_refused():
    with pytest.raises(
        InputError, match=r"keeps its tokens in the order of the image \(not so: norm1"
    ) as caught:
        find_target_layer(TorchBlackBox(fixed(lambda: Transformer(shuffled=True))), photos())
    assert "rise" in str(caught.value)


def test_a_layer_can_be_named():
    black_box = TorchBlackBox(
        fixed(lambda: convolutional(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)))
    )
    named = FeatureMap("1", "maps", 8, (15, 15), image_size=(32, 32))
    assert find_target_layer(black_box, photos(), "1") == named
    assert find_target_layer(black_box, photos()).name == "3"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "layer4",
            r"layer='layer4' of Sequential is not one of its layers. Some that have spatial "
            r"feature maps, the last first: '3', '2'",
        ),
        ("4", r"returns \(1, 6, 1, 1\), which is not a map of the image"),
    ],
)
def test_a_named_layer_that_will_not_do_is_refused_with_others(name, says):
    black_box = TorchBlackBox(
        fixed(lambda: convolutional(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)))
    )
    with pytest.raises(InputError, match=says):
        find_target_layer(black_box, photos(), name)


def test_a_named_layer_that_is_used_twice_is_refused():
    with pytest.raises(InputError, match="does not return one tensor in one call per forward pass"):
        find_target_layer(TorchBlackBox(fixed(Shared)), photos(), "block")


def test_models_without_maps_are_refused_with_the_way_out():
    with pytest.raises(InputError, match=r"no layer of Sequential passes .* 'rise'"):
        find_target_layer(TorchBlackBox(nn.Sequential(nn.Flatten(), nn.Linear(3072, 4))), photos())
    with pytest.raises(
        InputError, match=r"PlantedEvidence does not expose a torch module.* 'rise'"
    ):
        find_target_layer(PlantedEvidence(), photos())


@pytest.mark.parametrize(
    "build", [Transformer, Shared, lambda: convolutional(nn.Flatten(), nn.Linear(1014, 5))]
)
def test_the_model_and_the_random_state_are_untouched(build):
    model = build().train()
    with untouched("find_target_layer", model):
        black_box = TorchBlackBox(model)
        logits, leaves = logits_and_activations(
            black_box, photos(), find_target_layer(black_box, photos())
        )
        torch.autograd.grad(logits.sum(), leaves)
        assert torch.is_grad_enabled()


def test_it_is_found_once_for_each_size_and_forgotten_with_the_model():
    model = fixed(Transformer)
    calls = []
    model.norm.register_forward_hook(lambda *given: calls.append(1))
    find_target_layer(TorchBlackBox(model), photos())
    queried = len(calls)
    assert queried > 0
    assert find_target_layer(TorchBlackBox(model), photos(n=1)).side == (8, 8)
    assert len(calls) == queried
    assert find_target_layer(TorchBlackBox(model), photos(16)).side == (4, 4)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("limit", [None, 1, 2])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_cut_gives_the_gradients_of_the_whole_graph(limit, frozen):
    model = fixed(lambda: convolutional(nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(484, 5)))
    model.double().requires_grad_(not frozen)  # no rounding flips a ReLU
    images, kept = photos(n=3).double(), []
    black_box = TorchBlackBox(model, max_batch_size=limit)
    with torch.no_grad():
        logits, leaves = logits_and_activations(
            black_box, images, find_target_layer(black_box, images, "2")
        )
        assert not torch.is_grad_enabled()
    slopes = torch.cat(torch.autograd.grad(logits[:, 1].sum(), leaves))
    model[2].register_forward_hook(lambda m, given, output: kept.append(output) or output * 1)
    whole = model(images.clone().requires_grad_())
    assert torch.allclose(whole, logits, rtol=0, atol=1e-12)
    (expected,) = torch.autograd.grad(whole[:, 1].sum(), kept)
    assert torch.allclose(expected, slopes, rtol=0, atol=1e-12)
    assert torch.allclose(torch.cat(leaves), kept[0], rtol=0, atol=1e-12)
    assert len(leaves) == {None: 1, 1: 3, 2: 2}[limit]


def test_nothing_before_the_cut_is_recorded():
    model = fixed(lambda: convolutional(nn.Flatten(), nn.Linear(1014, 5)))
    recorded = []
    model[0].register_forward_hook(lambda m, given, output: recorded.append(output.requires_grad))
    black_box = TorchBlackBox(model)
    feature_map = find_target_layer(black_box, photos())
    recorded.clear()
    logits_and_activations(black_box, photos(), feature_map)
    assert recorded == [False]


class StandaloneEncoder(nn.Sequential):
    """Its first layers run without a graph, whatever the caller says."""

    def forward(self, x):
        with torch.no_grad():
            x = self[1](self[0](x))
        return self[3](self[2](x))


def test_a_model_that_sets_the_mode_by_itself_can_be_cut_where_it_is_named():
    black_box = TorchBlackBox(
        fixed(
            lambda: StandaloneEncoder(
                nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 3)
            )
        )
    )
    with pytest.raises(InputError, match="passes a gradient"):
        find_target_layer(black_box, photos())
    logits, leaves = logits_and_activations(
        black_box, photos(), find_target_layer(black_box, photos(), "1")
    )
    assert torch.autograd.grad(logits[:, 0].sum(), leaves)[0].any()


def test_logits_that_do_not_depend_on_a_named_layer_are_refused():
    class Detached(nn.Sequential):
        def forward(self, x):
            return self[2](self[1](self[0](x).detach()))

    black_box = TorchBlackBox(
        fixed(lambda: Detached(nn.Conv2d(3, 4, 3, stride=2), nn.Flatten(), nn.Linear(900, 3)))
    )
    black_box.model.requires_grad_(False)
    with pytest.raises(GradientError, match="do not depend on the output of '0'"):
        logits_and_activations(black_box, photos(), find_target_layer(black_box, photos(), "0"))


def test_bfloat16_models():
    model = fixed(Transformer).to(torch.bfloat16)
    black_box = TorchBlackBox(model)
    feature_map = find_target_layer(black_box, photos())
    assert feature_map.name == "norm1"
    logits, leaves = logits_and_activations(black_box, photos(), feature_map)
    assert leaves[0].dtype == torch.bfloat16
    assert torch.autograd.grad(logits[:, 0].sum(), leaves)[0].isfinite().all()


def test_under_a_global_maximum_the_last_map_is_found_though_few_positions_count():
    class Highest(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = torch.nn.Conv2d(3, 6, 5, 2), torch.nn.Linear(6, 3)

        def forward(self, x):
            return self.head(self.conv(x).tanh().amax((2, 3)))

    assert (
        find_target_layer(TorchBlackBox(Highest().eval()), torch.rand(1, 3, 41, 57)).name == "conv"
    )
