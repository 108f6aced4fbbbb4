"""Incremental answers equal full passes: every kind of layer at odd sizes, small networks drawn at
random, and known families.
"""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from saliencykit.networks.incremental.filled_windows import Windows


class Fn(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class BlackBoxWrapper(nn.Module):
    """A residual connection, or another path to join what went in with what came out."""

    def __init__(self, inner, join=torch.add):
        super().__init__()
        self.inner, self.join = inner, join

    def forward(self, x):
        return self.join(self.inner(x), x)


class SqueezeExcite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class ChannelsLastBlock(nn.Module):
    """ConvNeXt's block."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.partial_network = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, 2 * channels),
            nn.GELU(),
            nn.Linear(2 * channels, channels),
        )
        self.gamma = nn.Parameter(torch.rand(channels))

    def forward(self, x):
        return x + (self.gamma * self.partial_network(self.conv(x).permute(0, 2, 3, 1))).permute(
            0, 3, 1, 2
        )


def net(*layers, channels=6):
    """The layers between a stem and a head that keeps places apart."""
    return lambda: nn.Sequential(
        nn.Conv2d(3, channels, 3),
        nn.ReLU(),
        *[make() for make in layers],
        nn.Flatten(),
        nn.LazyLinear(5),
    )


def conv(*args, **kwargs):
    return lambda: nn.Conv2d(6, 6, *args, **kwargs)


LAYERS = {
    "conv": conv(3, padding=1),
    "conv without padding": conv((3, 2)),
    "strided": conv(3, stride=2, padding=1),
    "strided, uneven": conv((5, 3), stride=(3, 2), padding=(2, 0)),
    "stride beyond the kernel": conv(1, stride=2),
    "dilated": conv(3, dilation=2, padding=2),
    "dilated and strided": conv(3, dilation=(1, 3), stride=2, padding=(0, 3)),
    "depthwise": conv(3, padding=1, groups=6),
    "groups": conv(3, padding=1, groups=3),
    "same": conv((4, 3), padding="same"),
    "valid": conv(2, padding="valid"),
    "pointwise": conv(1),
    "more padding than kernel": conv(2, padding=1),
    "reflected": conv(3, padding=1, padding_mode="reflect"),
    "zeros padded before": lambda: nn.Sequential(nn.ZeroPad2d((1, 2, 0, 3)), nn.Conv2d(6, 6, 3)),
    "transposed": lambda: nn.ConvTranspose2d(6, 6, 3, stride=2),
    "max pool": lambda: nn.MaxPool2d(2),
    "max pool with padding": lambda: nn.MaxPool2d(3, stride=2, padding=1),
    "max pool, ceil": lambda: nn.MaxPool2d(3, stride=2, ceil_mode=True),
    "max pool, ceil, padding, dilation": lambda: nn.MaxPool2d(2, stride=3, padding=1, dilation=2,
        ceil_mode=True),
    "average pool": lambda: nn.AvgPool2d((2, 3)),
    "average pool with padding": lambda: nn.AvgPool2d(3, stride=2, padding=1),
    "average pool without its padding": lambda: nn.AvgPool2d(3, stride=2, padding=1,
        count_include_pad=False),
    "average pool, ceil": lambda: nn.AvgPool2d(2, stride=2, ceil_mode=True,
        count_include_pad=False),
    "average pool, ceil and padding": lambda: nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True),
    "average pool, own divisor": lambda: nn.AvgPool2d(2, divisor_override=3),
    "adaptive pool": lambda: nn.AdaptiveAvgPool2d(3),
    "adaptive max": lambda: nn.AdaptiveMaxPool2d(1),
    "mean": lambda: nn.AdaptiveAvgPool2d(1),
    "mean by hand": lambda: Fn(lambda x: x.mean((-2, -1)).view(len(x), -1, 1, 1)),
    "mean, kept": lambda: Fn(lambda x: x.mean([2, 3], keepdim=True)),
    "mean of the channels": lambda: Fn(lambda x: x.mean(1, keepdim=True)),
    "batch norm": lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(6)),
    "group norm": lambda: nn.GroupNorm(2, 6),
    "activations": lambda: nn.Sequential(nn.SiLU(), nn.GELU(), nn.Hardswish(), nn.ELU(),
        nn.LeakyReLU(), nn.Mish(), nn.Tanh()),
    "in place": lambda: nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU(inplace=True),
        nn.ReLU6(inplace=True), nn.SiLU(inplace=True)),
    "prelu": lambda: nn.PReLU(6),
    "softmax over channels": lambda: nn.Softmax2d(),
    "interpolated": lambda: nn.Upsample(scale_factor=2),
    "residual": lambda: BlackBoxWrapper(nn.Conv2d(6, 6, 3, padding=1)),
    "residual in place": lambda: BlackBoxWrapper(nn.Sequential(nn.Conv2d(6, 6, 3, padding=1),
        nn.ReLU()), lambda a, b: a.add_(b)),
    "residual by +=": lambda: BlackBoxWrapper(nn.Conv2d(6, 6, 5, padding=2), lambda a,
        b: a.__iadd__(b)),
    "product": lambda: BlackBoxWrapper(nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.Sigmoid()),
        torch.mul),
    "concatenated": lambda: BlackBoxWrapper(nn.Conv2d(6, 4, 3, padding=1), lambda a,
        b: torch.cat([a, b], 1)),
    "concatenated downwards": lambda: BlackBoxWrapper(nn.Conv2d(6, 6, 3, padding=1), lambda a,
        b: torch.cat([a, b], 2)),
    "split": lambda: Fn(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)),
    "scaled": lambda: Fn(lambda x: 2 * x / 3 + torch.arange(6.0).view(6, 1, 1).to(x) - 1),
    "places added": lambda: Fn(lambda x: x + torch.arange(float(x.shape[3])).to(x)),
    "squeeze and excitation": lambda: SqueezeExcite(6),
    "channels last": lambda: ChannelsLastBlock(6),
    "shuffled channels": lambda: Fn(lambda x: x.view(len(x), 2, 3, *x.shape[2:]).transpose(1,
        2).flatten(1, 2)),
    "cropped": lambda: Fn(lambda x: x[:, :, 2:-3, 1:]),
    "turned": lambda: Fn(lambda x: x.transpose(2, 3)),
    "local response norm": lambda: nn.LocalResponseNorm(3),
    "squared": lambda: Fn(lambda x: x**2),
    "dropout": lambda: nn.Dropout2d(),
}  # fmt: skip
WHOLE = {
    "reflected", "transposed", "adaptive pool", "adaptive max", "mean of the channels",
    "group norm", "softmax over channels",
    "turned", "interpolated", "concatenated downwards", "places added", "shuffled channels",
    "cropped", "local response norm",
    "squeeze and excitation",
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_answers_as_in_full_passes(both, local, name):
    got, wanted, cones = both(net(LAYERS[name], lambda: nn.LazyConv2d(6, 1)))
    assert torch.allclose(got, wanted, atol=1e-10)
    assert (wanted[1:] - wanted[:1]).abs().amax(
        1
    ).median() > 1e-8  # most windows make a difference, or the comparison says little
    known, whole = local(cones)
    assert known >= 3 * 4
    assert whole <= {"flatten", "linear", "to", "conv2d", "view"} or name in WHOLE


@pytest.mark.parametrize(
    "name", ["strided", "max pool, ceil, padding, dilation", "residual", "channels last", "mean"]
)
@pytest.mark.parametrize(
    ("size", "window", "stride"),
    [
        ((33, 14), 2, 5),
        ((14, 29), 13, 4),
        *(pytest.param((n, n), w, w, marks=pytest.mark.slow) for n, w in ((16, 4), (15, 1))),
    ],
)
def test_any_image_and_window(both, name, size, window, stride):
    got, wanted, _ = both(
        net(LAYERS[name], LAYERS["conv"], LAYERS[name]), size=size, window=window, stride=stride
    )
    assert torch.allclose(got, wanted, atol=1e-10)


@pytest.mark.parametrize(
    "groups", [1, 7, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 50))]
)
def test_any_grouping(both, groups):
    layers = [LAYERS[n] for n in ("residual", "strided", "channels last", "concatenated")]
    got, wanted, _ = both(
        net(*layers, lambda: nn.Conv2d(10, 6, 3, padding=1), LAYERS["mean"]),
        size=(40, 37),
        groups=groups,
    )
    assert torch.allclose(got, wanted, atol=1e-10)


def test_windows_of_different_sizes_and_regions_of_any_shape(both):
    windows = Windows(
        *(
            np.array(ends)
            for ends in ([0, 3, 10, 0], [2, 17, 11, 19], [5, 0, 22, 0], [9, 8, 23, 23])
        )
    )
    got, wanted, _ = both(net(LAYERS["residual"], LAYERS["strided"]), windows=windows, groups=1)
    assert torch.allclose(got, wanted, atol=1e-10)
    regions = torch.randint(4, (19, 23), generator=torch.Generator().manual_seed(5))
    everywhere = Windows(*(np.array([end] * 4) for end in (0, 19, 0, 23)))
    got, wanted, _ = both(
        net(LAYERS["residual"], LAYERS["strided"]), windows=everywhere, regions=regions, groups=2
    )
    assert torch.allclose(got, wanted, atol=1e-10)
    assert (wanted[1] - wanted[2]).abs().max() > 1e-6


def test_a_pooled_networks_windows_cost_a_part_of_it(both):
    _, _, cones = both(
        net(conv(3, padding=1), conv(3, padding=1), LAYERS["mean"]),
        size=(64, 64),
        window=8,
        stride=8,
    )
    assert all(cone.cost < 0.15 * cone.whole_cost for cone in cones)


def test_a_model_that_ends_in_another_form_and_other_channels(both):
    class Answer(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(1))

        def forward(self, x):
            return {"logits": self.net(x)}

    got, wanted, _ = both(Answer, channels=2)
    assert torch.allclose(got, wanted, atol=1e-10)
    assert got.shape[1] == 2


SMALL = st.integers(1, 3)


@st.composite
def layers(draw):
    """A layer that takes 6 channels and gives 6."""
    kind = draw(st.sampled_from(["conv", "max", "average", "residual", "known"]))
    kernel, stride, dilation = (
        draw(st.tuples(SMALL, SMALL)),
        draw(st.tuples(SMALL, SMALL)),
        draw(st.integers(1, 2)),
    )
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    if kind == "conv":
        groups = draw(st.sampled_from([1, 2, 3, 6]))
        return lambda: nn.Conv2d(6, 6, kernel, stride, padding, dilation, groups)
    if kind == "max":
        return lambda: nn.MaxPool2d(kernel, stride, padding, ceil_mode=bool(dilation - 1))
    if kind == "average":
        include = draw(st.booleans())
        return lambda: nn.AvgPool2d(
            kernel, stride, padding, ceil_mode=bool(dilation - 1), count_include_pad=include
        )
    if kind == "residual":
        return lambda: BlackBoxWrapper(
            nn.Sequential(nn.Conv2d(6, 6, 3, padding=dilation, dilation=dilation), nn.ReLU())
        )
    names = [
        "activations",
        "batch norm",
        "in place",
        "scaled",
        "split",
        "channels last",
        "zeros padded before",
        "reflected",
        "squeeze and excitation",
    ]
    return LAYERS[draw(st.sampled_from(names))]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_small_networks_drawn_at_random(both, data):
    size = data.draw(st.tuples(st.integers(24, 40), st.integers(24, 40)))
    chain = data.draw(st.lists(layers(), min_size=1, max_size=4))
    count = data.draw(st.integers(1, 6))
    ends = []
    for side in size:
        first = data.draw(st.lists(st.integers(0, side - 1), min_size=count, max_size=count))
        ends += [np.array(first), np.array([data.draw(st.integers(f + 1, side)) for f in first])]
    try:
        got, wanted, _ = both(net(*chain), size=size, windows=Windows(*ends), groups=min(2, count))
    except Exception as error:
        if not any(text in str(error) for text in ("too small", "Kernel size", "less than")):
            raise
        return
    assert torch.allclose(got, wanted, atol=1e-9)


FAMILIES = {
    "resnet18": 64, "mobilenet_v2": 64, "vgg11_bn": 64, "squeezenet1_1": 64, "densenet121": 64,
    "efficientnet_b0": 64,
    "convnext_tiny": 64,
    "googlenet": 64, "shufflenet_v2_x0_5": 64, "mnasnet0_5": 64, "regnet_y_400mf": 64,
    "alexnet": 80, "inception_v3": 96,
}  # fmt: skip


@pytest.mark.parametrize("name", ["squeezenet1_1"])
def test_torchvisions_networks(both, name):
    _family(both, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in FAMILIES if n != "squeezenet1_1"])
def test_more_of_torchvisions_networks(both, name):
    _family(both, name)


def _family(both, name):
    import torchvision

    extra = (
        {"init_weights": True, "aux_logits": True} if name in ("googlenet", "inception_v3") else {}
    )
    side = FAMILIES[name]
    got, wanted, _ = both(
        lambda: getattr(torchvision.models, name)(weights=None, num_classes=7, **extra),
        size=(side, side),
        window=9,
        stride=22,
    )
    spread = wanted.max() - wanted.min()
    assert (got - wanted).abs().max() < 1e-9 * spread
