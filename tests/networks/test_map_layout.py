"""Which part of a layer's output is the image, read from what the layer does."""

import pytest
import torch
from torch import Generator, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.networks.layer_activations import logits_and_activations, read_feature_maps
from saliencykit.networks.map_layout import feature_maps_in
from saliencykit.networks.module_calls import record_calls
from saliencykit.networks.target_layer import find_target_layer
from tests.helpers import fixed


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm, self.attention = (
            nn.LayerNorm(dim),
            nn.MultiheadAttention(dim, 2, batch_first=True),
        )

    def forward(self, x):
        y = self.norm(x)
        return x + 0.1 * self.attention(y, y, y, need_weights=False)[0]


class Transformer(nn.Module):
    """With `before` tokens before the patches and `after` behind them; the patches are averaged."""

    def __init__(self, before, after, patch=(8, 8)):
        super().__init__()
        self.embed = nn.Conv2d(3, 16, patch, patch)
        self.before = nn.Parameter(torch.randn(1, before, 16) * 0.5)
        self.after = nn.Parameter(torch.randn(1, after, 16) * 0.5)
        self.blocks = nn.Sequential(Block(16), Block(16))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 3)

    def forward(self, x):
        x = self.embed(x).flatten(2).mT
        count, first = x.shape[1], self.before.shape[1]
        extra = (self.before, self.after)
        before, after = (each.expand(len(x), -1, -1) for each in extra)
        x = self.norm(self.blocks(torch.cat([before, x, after], 1)))
        return self.head(x[:, first : first + count].mean(1))


def change_of(black_box, feature_map, size, y, x, extent):
    """Where the maps change if a rectangle of the image does, as a fraction of all change."""
    images = torch.rand(1, black_box.model_channels, *size, generator=Generator().manual_seed(1))
    images = images.repeat(2, 1, 1, 1)
    images[1, :, y : y + extent[0], x : x + extent[1]] += 2
    with torch.no_grad():
        _, (maps,) = read_feature_maps(black_box, images, [feature_map])
    change = (maps[1] - maps[0]).square().sum(0)
    return change / change.sum()


@pytest.mark.parametrize(
    ("before", "after", "patch", "size"),
    [
        (0, 0, (8, 8), (56, 56)),
        (0, 1, (8, 8), (56, 56)),
        (0, 4, (8, 8), (56, 56)),
        (0, 7, (8, 8), (56, 56)),  # as many as another row
        (14, 0, (8, 8), (56, 56)),  # as many as two
        (1, 4, (8, 8), (56, 56)),
        (28, 0, (8, 8), (112, 112)),  # 16 x 14 positions, as 14 x 14 and 28 more
        (14, 14, (8, 8), (112, 112)),
        (5, 3, (8, 8), (40, 96)),
        (1, 0, (4, 16), (64, 64)),  # patches that are no squares
        (0, 3, (8, 2), (40, 40)),
        (2, 0, (16, 4), (48, 96)),
    ],
)
def test_tokens_before_and_behind_the_patches_are_told_from_them(before, after, patch, size):
    black_box = TorchBlackBox(fixed(lambda: Transformer(before, after, patch)), size=size)
    black_box = Channels(black_box, 3)
    images = torch.rand(1, 3, *size)
    feature_map = find_target_layer(black_box.black_box, images)
    side = (size[0] // patch[0], size[1] // patch[1])
    assert (feature_map.name, feature_map.prefix, feature_map.suffix) == ("norm", before, after)
    assert feature_map.side == side
    for row, column in ((0, 0), (side[0] - 1, 1), (side[0] // 2, side[1] - 1)):
        change = change_of(black_box, feature_map, size, row * patch[0], column * patch[1], patch)
        assert divmod(int(change.argmax()), side[1]) == (row, column)


class Channels:
    """A black box, with the number of channels of its images."""

    def __init__(self, black_box, channels):
        self.black_box, self.model_channels = black_box, channels

    def __getattr__(self, name):
        return getattr(self.black_box, name)

    def __call__(self, images):
        return self.black_box(images)


@pytest.mark.parametrize(
    ("name", "options", "prefix", "side"),
    [
        pytest.param("vit_tiny_patch16_224", {"reg_tokens": 4}, 5, (5, 5), marks=pytest.mark.slow),
        pytest.param(
            "vit_tiny_patch16_224", {"reg_tokens": 27}, 28, (5, 5), marks=pytest.mark.slow
        ),
        ("vit_tiny_patch16_224", {"reg_tokens": 11, "img_size": (48, 128)}, 12, (3, 8)),
        ("vit_tiny_patch16_224", {"img_size": (80, 80), "patch_size": (8, 16)}, 1, (10, 5)),
        ("deit_tiny_distilled_patch16_224", {}, 2, (5, 5)),
        pytest.param("eva02_tiny_patch14_224", {"img_size": 70}, 1, (5, 5), marks=pytest.mark.slow),
    ],
)
def test_transformers_of_timm_with_any_number_of_tokens(name, options, prefix, side):
    timm = pytest.importorskip("timm")
    options = {"img_size": 80, "depth": 2, "num_classes": 3, **options}
    model = fixed(lambda: timm.create_model(name, **options))
    size = options["img_size"]
    size = size if isinstance(size, tuple) else (size, size)
    assert model.num_prefix_tokens == prefix
    feature_map = find_target_layer(TorchBlackBox(model, size=size), torch.rand(1, 3, *size))
    assert (feature_map.prefix, feature_map.suffix, feature_map.side) == (prefix, 0, side)
    assert feature_map.offset == (0, 0)


class Windowed(Transformer):
    """8 x 8 tokens in windows of 2 x 2: window by window, or the first of all windows first."""

    def __init__(self, order):
        super().__init__(0, 0)
        grid = torch.arange(64).view(4, 2, 4, 2)
        self.order = grid.permute(order).flatten()

    def forward(self, x):
        x = self.embed(x).flatten(2).mT[:, self.order]
        return self.head(self.norm(self.blocks(x)).mean(1))


@pytest.mark.parametrize("order", [(0, 2, 1, 3), (1, 3, 0, 2), (2, 0, 3, 1), (3, 1, 0, 2)])
def test_tokens_in_windows_are_refused_by_name_and_passed_over_in_the_search(order):
    black_box = TorchBlackBox(fixed(lambda: Windowed(order)), size=(64, 64))
    images = torch.rand(1, 3, 64, 64)
    for layer in ("norm", "blocks.0"):
        with pytest.raises(InputError, match=r"not in the order of the image.*masker='rise'"):
            find_target_layer(black_box, images, layer)
    assert find_target_layer(black_box, images).name == "embed"


@pytest.mark.slow
def test_hiera_is_read_at_its_last_stage_and_refused_before():
    timm = pytest.importorskip("timm")
    model = fixed(lambda: timm.create_model("hiera_tiny_224", num_classes=3))
    nn.init.normal_(model.head.fc.weight, std=0.02)  # zeros until it is trained
    black_box, images = TorchBlackBox(model, size=(224, 224)), torch.rand(1, 3, 224, 224)
    feature_map = find_target_layer(black_box, images)
    assert (feature_map.name, feature_map.side) == ("blocks.11", (7, 7))
    for layer in ("blocks.0", "blocks.2", "blocks.5"):
        with pytest.raises(InputError, match="not in the order of the image"):
            find_target_layer(black_box, images, layer)


def strided(*strides, channels=1, pool=None):
    layers, before = [], channels
    for stride in strides:
        layers += [nn.Conv2d(before, 12, 3, stride, 1), nn.ReLU()]
        before = 12
    return nn.Sequential(*layers, pool or nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(4))


@pytest.mark.parametrize(
    ("strides", "size", "channels", "side"),
    [
        (((2, 1), (2, 1), (2, 2)), (32, 128), 1, (4, 64)),
        (((2, 2), (2, 1), (2, 1)), (32, 100), 1, (4, 50)),
        (((1, 2), (1, 2), (2, 2)), (100, 64), 3, (50, 8)),
        (((2, 1), (2, 1)), (60, 1), 11, (15, 1)),
        (((1, 2), (1, 2)), (1, 80), 2, (1, 20)),
    ],
)
def test_strides_that_differ_down_and_across(strides, size, channels, side):
    model = fixed(lambda: strided(*strides, channels=channels))
    images = torch.rand(1, channels, *size)
    model(images)
    black_box = Channels(TorchBlackBox(model, size=size), channels)
    last = str(2 * len(strides) - 1)
    for layer in (None, last):
        feature_map = find_target_layer(black_box.black_box, images, layer)
        assert (feature_map.name, feature_map.side) == (last, side)
    steps = [max(1, pixels // count) for pixels, count in zip(size, side, strict=True)]
    y, x = (count // 3 * step for count, step in zip(side, steps, strict=True))
    change = change_of(black_box, feature_map, size, y, x, steps)
    for axis, (count, pixel, step) in enumerate(zip(side, (y, x), steps, strict=True)):
        center = float((change.sum(1 - axis) * (torch.arange(count) + 0.5)).sum()) * step
        assert abs(center - pixel - step / 2) <= max(2, 1.2 * step)


def test_what_is_no_map_of_the_image_is_none():
    class Strange(nn.Sequential):
        """Numbers that come from a map, in shapes that could be one."""

        def forward(self, x):
            x = self[1](self[0](x)).mean((2, 3))
            return self[3](self[2](x.view(-1, 1, 8, 4)).flatten(1))

    net = fixed(lambda: Strange(nn.Conv2d(3, 32, 3, 2), nn.ReLU(), nn.Softplus(), nn.Linear(32, 3)))
    images, black_box = torch.rand(2, 3, 64, 96), TorchBlackBox(net, size=(64, 96))
    with torch.no_grad():
        _, calls = record_calls(black_box, images)
    assert [each.name for each, _ in feature_maps_in(black_box, calls, images)] == ["0", "1"]
    with pytest.raises(InputError, match="not a map of the image"):
        find_target_layer(black_box, images, "2")


class SharedReLU(nn.Module):
    def __init__(self, *, inplace=False):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 8, 3, 2, 1)
        self.relu, self.pool, self.head = (
            nn.ReLU(inplace),
            nn.AdaptiveAvgPool2d(1),
            nn.Linear(8, 3),
        )

    def forward(self, x):
        x = self.relu(self.second(self.relu(self.first(x))))
        return self.head(self.pool(x).flatten(1))


@pytest.mark.parametrize("most", [None, 1])
@pytest.mark.parametrize("inplace", [False, True])
def test_a_call_of_a_shared_relu_is_read_as_if_it_were_a_module_of_its_own(most, inplace):
    model = fixed(lambda: SharedReLU(inplace=inplace))
    images = torch.rand(3, 3, 32, 32, generator=Generator().manual_seed(0))
    black_box = TorchBlackBox(model, max_batch_size=most)
    feature_map = find_target_layer(black_box, images)
    assert (feature_map.name, feature_map.call, feature_map.calls) == ("relu", 1, 2)
    expected = model.second(model.first(images).relu()).relu()
    logits, (maps,) = read_feature_maps(black_box, images, [feature_map])
    assert torch.allclose(maps, expected, atol=1e-6)
    logits, leaves = logits_and_activations(black_box, images, feature_map)
    gradients = torch.cat(torch.autograd.grad(logits[:, 1].sum(), leaves))
    assert torch.allclose(torch.cat(leaves), expected, atol=1e-6)
    assert torch.allclose(gradients, model.head.weight[1].view(-1, 1, 1) / 64, atol=1e-6)
