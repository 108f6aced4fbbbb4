import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from saliencykit import explain
from saliencykit.black_boxes.timm import wrap_timm
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.feature_pyramid import choose_pyramid
from saliencykit.networks.forward_hooks import hooked
from saliencykit.networks.layer_activations import FeatureReader, read_feature_maps
from saliencykit.networks.map_layout import feature_maps_in
from saliencykit.networks.module_calls import one_call, record_calls
from saliencykit.networks.module_layers import module_of
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.testing.unchanged import untouched

TIMM = ("test_resnet", "test_vit", "test_convnext", "test_mambaout")


@pytest.fixture(params=TIMM)
def timm_black_box(request):
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return wrap_timm(timm.create_model(request.param))


# one tap


@pytest.mark.parametrize(
    ("feature_map", "shape"),
    [
        (FeatureMap("x", "maps", 6, (4, 8)), (2, 6, 4, 8)),
        (FeatureMap("x", "last", 6, (4, 8)), (2, 4, 8, 6)),
        (FeatureMap("x", "tokens", 6, (4, 8), 0), (2, 32, 6)),
        (FeatureMap("x", "tokens", 6, (4, 8), 5), (2, 37, 6)),
    ],
)
def test_writing_is_the_reverse_of_reading(feature_map, shape):
    output = torch.randn(shape)
    maps = feature_map.read(output, (32, 64))
    assert maps.shape == (2, 6, 4, 8)
    assert torch.equal(feature_map.write(maps, output), output)


def test_tokens_become_rows_and_columns():
    output = torch.arange(2 * 9 * 3.0).view(2, 9, 3)  # 1 + 2 * 4
    maps = FeatureMap("x", "tokens", 3, (2, 4), 1).read(output, (16, 32))
    for row in range(2):
        for column in range(4):
            assert torch.equal(maps[:, :, row, column], output[:, 1 + 4 * row + column])


def test_a_written_map_keeps_the_class_token_and_the_dtype():
    output = torch.randn(2, 5, 3).half()
    written = FeatureMap("x", "tokens", 3, (2, 2), 1).write(torch.zeros(2, 3, 2, 2), output)
    assert written.dtype == torch.float16
    assert torch.equal(written[:, 0], output[:, 0])
    assert not written[:, 1:].any()


def test_half_precision_is_read_as_float32_and_float64_stays():
    feature_map = FeatureMap("x", "maps", 1, (2, 2))
    assert feature_map.read(torch.zeros(1, 1, 2, 2).bfloat16(), (8, 8)).dtype == torch.float32
    assert feature_map.read(torch.zeros(1, 1, 2, 2).double(), (8, 8)).dtype == torch.float64


def test_tokens_that_are_no_grid_are_named():
    with pytest.raises(InputError, match=r"'blocks.1' returned \(1, 8, 3\), which is not a grid"):
        FeatureMap("blocks.1", "tokens", 3, (2, 2), 1).read(torch.zeros(1, 8, 3), (16, 16))


# what is a map


# reading a box


def test_the_maps_are_what_a_plain_hook_sees(net, photos):
    black_box, images, seen = net("convolutional"), photos(3), []
    feature_maps = [
        FeatureMap("stages.0", "maps", 8, (16, 16)),
        FeatureMap("stages.2", "maps", 16, (4, 4)),
    ]
    handles = [
        black_box.model.get_submodule(t.name).register_forward_hook(
            lambda m, a, out: seen.append(out)
        )
        for t in feature_maps
    ]
    logits = black_box(images)
    for handle in handles:
        handle.remove()
    again, maps = read_feature_maps(black_box, images, feature_maps)
    assert torch.equal(again, logits)
    assert all(torch.equal(one, other) for one, other in zip(maps, seen, strict=True))


def test_a_black_box_that_splits_its_batch_is_read_whole(net, photos):
    images, feature_maps = photos(5), [FeatureMap("stages.1", "maps", 12, (8, 8))]
    _, whole = read_feature_maps(net("convolutional"), images, feature_maps)
    _, parts = read_feature_maps(net("convolutional", max_batch_size=2), images, feature_maps)
    assert torch.allclose(whole[0], parts[0], atol=1e-5)


def test_a_reader_reads_the_same_in_every_thread_and_after_an_error(net, photos):
    black_box, images = net("convolutional"), photos(3)
    feature_maps = [FeatureMap("stages.0", "maps", 8, (16, 16))]
    expected = [read_feature_maps(black_box, images[i : i + 1], feature_maps) for i in range(3)]
    reader = pickle.loads(pickle.dumps(FeatureReader(black_box, feature_maps)))

    def read(turn):
        with pytest.raises(InputError), torch.no_grad():
            reader(images[:, :, :1, :0])
        with torch.no_grad():
            return turn % 3, reader(images[turn % 3 : turn % 3 + 1])

    with ThreadPoolExecutor(4) as pool:
        for i, (logits, maps) in pool.map(read, range(12)):
            assert torch.equal(logits, expected[i][0])
            assert all(map(torch.equal, maps, expected[i][1]))
    assert not any(layer._forward_hooks for layer in black_box.module.modules())


def test_gradients_reach_the_maps(net, photos):
    black_box, images = net("convolutional"), photos(2).requires_grad_()
    _, maps = read_feature_maps(black_box, images, [FeatureMap("stages.2", "maps", 16, (4, 4))])
    assert torch.autograd.grad(maps[0].sum(), images)[0].abs().sum() > 0


def test_a_layer_that_is_not_there_is_named(net, photos):
    with pytest.raises(InputError, match=r"Convolutional has no layer 'layer9'"):
        read_feature_maps(
            net("convolutional"), photos(2), [FeatureMap("layer9", "maps", 1, (4, 4))]
        )


def test_a_layer_that_is_never_queried_is_named(net, photos):
    black_box = net("convolutional")
    black_box.model.add_module("idle", nn.Conv2d(3, 3, 1))
    with pytest.raises(InputError, match=r"'idle' of Convolutional returned 0 rows for 2 images"):
        read_feature_maps(black_box, photos(2), [FeatureMap("idle", "maps", 3, (16, 16))])


def test_a_black_box_without_a_module_is_told_what_to_write():
    with pytest.raises(InputError, match="encoder='own'"):
        module_of(PlantedEvidence())


# watching


def test_calls_are_in_the_order_in_which_they_ended(net, photos):
    black_box, images = net("convolutional"), photos(2)
    logits, calls = record_calls(black_box, images)
    names = [call.name for call in calls]
    assert (
        names.index("stages.0.0")
        < names.index("stages.0")
        < names.index("stages.1.0")
        < names.index("stages")
        < names.index("fc")
    )
    assert torch.equal(calls[-1].output, logits)
    assert calls[-1].input.shape == (2, 16)


def test_a_module_that_is_called_twice_is_left_out(photos):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.act, self.conv, self.fc = nn.ReLU(), nn.Conv2d(3, 4, 3, 2, 1), nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(self.act(self.conv(self.act(x))).mean((2, 3)))

    _, calls = record_calls(TorchBlackBox(Twice()), photos(2))
    assert [call.name for call in calls] == ["conv", "fc"]


def test_a_black_box_that_takes_one_image_at_a_time_is_recorded_on_one(net, photos):
    black_box, images = net("convolutional", max_batch_size=1), photos(3)
    assert len(one_call(net("convolutional"), images, 2)) == 2
    assert len(one_call(black_box, images, 2)) == 1
    _, calls = record_calls(black_box, one_call(black_box, images, 2))
    assert "stages" in [call.name for call in calls]


@pytest.mark.parametrize("name", ["convolutional", "channels-last", "class-token"])
def test_nothing_is_left_behind(net, photos, name):
    black_box, images = net(name), photos(2)
    black_box.model.train()
    feature_map = FeatureMap({"convolutional": "stages"}.get(name, "norm"), "maps", 1, (4, 4))
    with untouched("watching", black_box.model, images=images):
        record_calls(black_box, images)
        with torch.no_grad(), hooked(black_box, [feature_map.name], lambda _: print) as own:
            own(images)


def test_nothing_is_left_behind_by_a_model_that_raises(net, photos):
    class Raising(nn.Module):
        def forward(self, x):
            raise RuntimeError("out of luck")

    black_box = net("convolutional")
    black_box.model.fc = Raising()
    feature_maps = [FeatureMap("stages.0", "maps", 8, (16, 16))]
    with untouched("watching", black_box.model):
        with pytest.raises(InputError, match="out of luck"):
            record_calls(black_box, photos(2))
        with pytest.raises(InputError, match="out of luck"):
            read_feature_maps(black_box, photos(2), feature_maps)
        with (
            pytest.raises(InputError, match="no layer"),
            hooked(black_box, ["stages.0", "nowhere"], lambda _: print),
        ):
            pass


# choosing


def test_the_pyramid_has_one_outermost_block_a_side(net, photos):
    black_box, images = net("convolutional"), photos(2)
    _, calls = record_calls(black_box, images)
    maps = [feature_map for feature_map, _ in feature_maps_in(black_box, calls, images)]
    coarse = next(feature_map for feature_map in maps if feature_map.name == "stages")
    feature_maps = choose_pyramid(maps, coarse, (16, 16))
    assert [(feature_map.name, feature_map.side[0]) for feature_map in feature_maps] == [
        ("stages.0", 16),
        ("stages.1", 8),
        ("stages", 4),
    ]
    coarser = choose_pyramid(maps, coarse, (8, 8))
    assert [feature_map.side[0] for feature_map in coarser] == [8, 4]


def test_a_plain_transformer_gives_two_earlier_blocks(net, photos):
    black_box, images = net("class-token"), photos(2)
    _, calls = record_calls(black_box, images)
    maps = [feature_map for feature_map, _ in feature_maps_in(black_box, calls, images)]
    coarse = next(feature_map for feature_map in maps if feature_map.name == "norm")
    feature_maps = choose_pyramid(maps, coarse, (16, 16))
    assert len(feature_maps) >= 2
    assert feature_maps[-1] == coarse
    assert {feature_map.layout for feature_map in feature_maps} == {"tokens"}


def test_models_of_timm(timm_black_box):
    side = timm_black_box.input_size[0]
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with untouched("watching", timm_black_box.model, images=images), torch.no_grad():
        _, calls = record_calls(timm_black_box, images)
        feature_maps = [
            feature_map for feature_map, _ in feature_maps_in(timm_black_box, calls, images)
        ]
        coarse = min(reversed(feature_maps), key=lambda feature_map: feature_map.side[0])
        chosen = choose_pyramid(feature_maps, coarse, (side // 4, side // 4))
        _, maps = read_feature_maps(timm_black_box, images, chosen)
    assert 2 <= len(chosen) <= 5
    sides = [feature_map.side[0] for feature_map in chosen]
    assert sides == sorted(sides, reverse=True)
    for feature_map, read in zip(chosen, maps, strict=True):
        assert read.shape == (2, feature_map.channels, *feature_map.side)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("masker", ["grad-cam", "score-cam", "ablation-cam", "excitation-backprop"])
def test_torchscript_shows_no_layers_and_the_message_says_so(masker, whole):
    body = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = (
        torch.jit.script(nn.Sequential(body, nn.Linear(4, 3)))
        if whole
        else nn.Sequential(torch.jit.script(body), nn.Linear(4, 3))
    )
    with pytest.raises(InputError, match="TorchScript hides its layers: give the Python module"):
        explain(model.eval(), torch.rand(1, 3, 32, 32), 1, masker=masker)


@pytest.mark.parametrize(
    "masker",
    [
        "rise:samples=16",
        "occlusion",
        "gradient",
        "iterative:steps=2,areas=(0.2,0.2)",
        "extremal-perturbation:steps=2",
    ],
)
def test_torchscript_is_explained_by_all_that_needs_no_layers(masker):
    # a network without a class activation map, which `iterative` would start from
    head = (nn.Tanh(), nn.Flatten(), nn.Linear(1024, 3))
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), *head).eval()
    images = torch.rand(1, 3, 32, 32)
    plain, scripted = (
        explain(model, images, 1, masker=masker).mask for model in (net, torch.jit.script(net))
    )
    assert torch.allclose(plain, scripted, atol=1e-3)
