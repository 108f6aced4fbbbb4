"""Winning probabilities against a walk written out, their sum in every architecture, refusals."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Generator, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.maskers.gradient.winning_probability import marginal_winning_probability
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.testing.unchanged import untouched
from tests.helpers import fixed

IMAGES = torch.rand(2, 3, 12, 12, generator=Generator().manual_seed(0))


class Net(nn.Module):
    """One of everything: groups, dilation, stride, padding, a residual, a concatenation, both
    poolings, a gate.
    """

    def __init__(self):
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
        self.one = nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2)
        self.two = nn.Conv2d(6, 6, 1)
        self.three = nn.Conv2d(6, 2, 3, stride=2, padding=1)
        self.head = nn.Linear(8 * 4, 3)

    def forward(self, x):
        x = self.first(self.stem(x))
        x = F.relu(self.one(x), inplace=True)
        y = self.two(x)
        y += x
        y = y.relu_()
        x = F.max_pool2d(y, 3, 2, 1)
        x = torch.cat([x, self.three(y).relu()], 1)
        x = x * torch.sigmoid(x.mean((2, 3), keepdim=True))
        return self.head(F.adaptive_avg_pool2d(x, 2).flatten(1))


def probability(model, layer, images=IMAGES, labels=(0, 2), dual=False):
    black_box = TorchBlackBox(model, size=images.shape[-1])
    outputs = []
    handle = model.get_submodule(layer).register_forward_hook(lambda m, g, out: outputs.append(out))
    with torch.no_grad():
        plain = black_box(images)
    handle.remove()
    feature_map = FeatureMap(layer, "maps", outputs[0].shape[1], tuple(outputs[0].shape[2:]))
    return marginal_winning_probability(
        black_box, images, torch.tensor(labels), feature_map, dual=dual, expected=plain[:1]
    )


def by_hand_conv(mass, x, weight, stride, padding, dilation, groups):
    """Equation 3, one connection at a time."""
    out, (_, height, width), across = np.zeros_like(x), x.shape, weight.shape[1]
    for o, i, j in np.argwhere(mass != 0):
        ways = []
        for c in range(across):
            for a in range(weight.shape[2]):
                for b in range(weight.shape[3]):
                    row, column = (
                        i * stride - padding + a * dilation,
                        j * stride - padding + b * dilation,
                    )
                    if 0 <= row < height and 0 <= column < width:
                        place = (o // (len(weight) // groups) * across + c, row, column)
                        ways.append((place, max(x[place], 0) * max(weight[o, c, a, b], 0)))
        total = sum(excitation for _, excitation in ways)
        for place, excitation in ways:
            out[place] += mass[o, i, j] * (excitation / total if total > 0 else 1 / len(ways))
    return out


def by_hand(net, image, label, sign=1):
    """The walk from the logit to the output of `stem`, with numpy."""
    w = {name: value.detach().double().numpy() for name, value in net.named_parameters()}
    with torch.no_grad():
        stem = F.relu(net.stem(image[None]))
        one = F.relu(net.one(stem))
        two = net.two(one)
        y = F.relu(two + one)
        pooled, three = F.max_pool2d(y, 3, 2, 1), F.relu(net.three(y))
        x = torch.cat([pooled, three], 1)
        x = x * torch.sigmoid(x.mean((2, 3), keepdim=True))
        last = F.adaptive_avg_pool2d(x, 2).flatten()
    stem, one, two, y, x, last = (
        t.squeeze(0).double().numpy() for t in (stem, one, two, y, x, last)
    )
    excitation = last * np.maximum(sign * w["head.weight"][label], 0)
    pooled = (excitation / excitation.sum()).reshape(8, 2, 2)
    mass = np.zeros_like(x)  # (8, 6, 6): each pooled cell is the mean of 3 x 3
    for c, i, j in np.ndindex(8, 2, 2):
        part = np.s_[c, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3]
        mass[part] = pooled[c, i, j] * (x[part] / x[part].sum() if x[part].sum() > 0 else 1 / 9)
    at_y = by_hand_conv(mass[6:], y, w["three.weight"], 2, 1, 1, 1)
    for c, i, j in np.ndindex(6, 6, 6):
        places = [
            (a, b)
            for a in range(2 * i - 1, 2 * i + 2)
            for b in range(2 * j - 1, 2 * j + 2)
            if 0 <= a < 12 and 0 <= b < 12
        ]
        at_y[(c, *max(places, key=lambda place: y[(c, *place)]))] += mass[c, i, j]
    positive, total = np.maximum(two, 0), np.maximum(two, 0) + one
    share = np.where(total > 0, positive / np.where(total > 0, total, 1), 0.5)
    at_one = (1 - share) * at_y + by_hand_conv(share * at_y, one, w["two.weight"], 1, 0, 1, 1)
    return by_hand_conv(at_one, stem, w["one.weight"], 1, 2, 2, 2)


@pytest.mark.parametrize("sign", [1, -1])
def test_results_equal_a_walk_in_numpy(sign):
    net = fixed(Net, 1)
    result = probability(net, "first", dual=True)
    ours = (result.own if sign == 1 else result.dual).double().numpy()
    for row, label in enumerate((0, 2)):
        theirs = by_hand(net, IMAGES[row], label, sign)
        assert abs(theirs.sum() - 1) < 1e-9
        assert np.abs(ours[row] - theirs).max() < 1e-6
        assert theirs.max() > 1e-3


def test_probability_of_a_unit_that_nothing_excites_is_spread_evenly():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 64, 3),
    )
    nn.init.constant_(net[0].bias, -100.0)  # all inputs of the second convolution are zero
    nn.init.constant_(net[2].bias, 1.0)
    own = probability(net, "1").own
    assert torch.allclose(own.sum((1, 2, 3)), torch.ones(2), atol=1e-5)
    assert torch.allclose(own[:, :, 4, 4], own[:, :1, 4, 4].expand(-1, 4), atol=1e-7)


def test_a_maximum_passes_all_to_its_winner_and_a_parallel_branch_gets_its_share():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.head = (
                nn.Conv2d(3, 4, 1),
                nn.Conv2d(3, 4, 1),
                nn.Linear(4, 3),
            )

        def forward(self, x):
            return self.head((self.right(x).relu() + self.left(x).relu()).amax((2, 3)))

    net = fixed(Branches, 1)
    left, right = probability(net, "left").own, probability(net, "right").own
    assert torch.allclose(left.sum((1, 2, 3)) + right.sum((1, 2, 3)), torch.ones(2), atol=1e-5)
    assert 0 < left.sum((1, 2, 3)).min() < 1
    assert ((left > 0).flatten(2).sum(2) <= 1).all()


@pytest.mark.parametrize(
    "write",
    [lambda x, s: x * s, lambda x, s: s * x, lambda x, s: x.mul(s), lambda x, s: x / (1 + s)],
)
def test_a_gate_counts_as_a_weight(write):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.start, self.squeeze, self.head = (
                nn.Conv2d(3, 4, 3),
                nn.Linear(4, 4),
                nn.Linear(400, 3),
            )

        def forward(self, x):
            x = self.start(x).relu()
            # operations that make a gate need no rule
            gate = torch.softmax(torch.einsum("bchw->bc", x) @ self.squeeze.weight, 1)
            return self.head(write(x, gate[:, :, None, None]).flatten(1))

    net = fixed(Gated, 1)
    with torch.no_grad():
        x = net.start(IMAGES).relu()
        gate = torch.softmax(x.sum((2, 3)) @ net.squeeze.weight, 1)[:, :, None, None]
        excitation = write(x, gate).flatten(1) * net.head.weight[[0, 2]].clamp_min(0)
    expected = (excitation / excitation.sum(1, keepdim=True)).view(2, 4, 10, 10)
    assert torch.allclose(probability(net, "start").own, expected, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_a_batch_norm_is_folded_into_its_convolution(training):
    def make():
        return nn.Sequential(
            *(nn.Conv2d(3, 6, 3), nn.ReLU()),
            *(nn.Conv2d(6, 8, 3, bias=False, groups=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(512, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)),
        )

    net, plain = fixed(make, 1), fixed(make, 1)
    with torch.no_grad():
        for norm, conv in ((3, 2), (7, 6)):
            net[norm].weight.copy_(torch.tensor([1.0, -1, 2, -0.5, 0.1, -3, 1, 0.7]))
            net[norm].running_mean.uniform_(-0.1, 0.1, generator=Generator().manual_seed(5))
            scale = net[norm].weight * (net[norm].running_var + net[norm].eps).rsqrt()
            bias = 0 if net[conv].bias is None else net[conv].bias
            plain[conv].bias = nn.Parameter(
                net[norm].bias + (bias - net[norm].running_mean) * scale
            )
            plain[conv].weight.copy_(
                net[conv].weight * scale.view(-1, *[1] * (net[conv].weight.ndim - 1))
            )
            plain[norm] = nn.Identity()
        assert torch.allclose(net(IMAGES), plain(IMAGES), atol=1e-5)
    result, expected = (
        probability(net.train(training), "1", dual=True),
        probability(plain, "1", dual=True),
    )
    assert torch.allclose(result.own, expected.own, atol=1e-6)
    assert torch.allclose(result.dual, expected.dual, atol=1e-6)


def test_a_norm_with_statistics_of_the_batch_is_refused():
    with pytest.raises(InputError, match="BatchNorm"):
        probability(Odd(nn.BatchNorm2d(8, track_running_stats=False)).eval(), "start")


MODELS = [
    "resnet18",
    "vgg11",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "densenet121",
    "googlenet",
    "squeezenet1_0",
    "shufflenet_v2_x0_5",
]
MODELS += [
    "regnet_y_400mf",
    "mnasnet0_5",
    "efficientnet_b0",
    "convnext_tiny",
    "inception_v3",
    "alexnet",
]
TIMM = [
    "resnet10t",
    "resnetv2_18",
    "seresnet18",
    "repvgg_a0",
    "ghostnet_050",
    "test_efficientnet",
    "dla34",
    "hardcorenas_a",
]
TIMM += [
    "selecsls42",
    "skresnet18",
    "eca_nfnet_l0",
    "cspresnet50",
    "dpn48b",
    "res2net50_14w_8s",
    "xception41",
    "rexnet_100",
]


def any_model(name):
    if name in TIMM:
        import timm

        return timm.create_model(name, pretrained=False, num_classes=5)
    import torchvision

    extra = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return getattr(torchvision.models, name)(weights=None, num_classes=5, **extra)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS + TIMM)
def test_the_sum_is_1_in_every_layer_of_every_family(name):
    from saliencykit.networks.map_layout import feature_maps_in
    from saliencykit.networks.module_calls import record_calls

    net = fixed(lambda: any_model(name), 1)
    size = 128 if name == "dla34" else 80  # its sides are halved five times
    images = torch.rand(2, 3, size, size, generator=Generator().manual_seed(3))
    black_box = TorchBlackBox(net, size=size)
    with torch.no_grad():
        logits, calls = record_calls(black_box, images)
    feature_maps = [feature_map for feature_map, _ in feature_maps_in(black_box, calls, images)]
    outermost = [
        feature_map
        for feature_map in feature_maps
        if feature_map.name.count(".")
        == min(t.name.count(".") for t in feature_maps if t.side == feature_map.side)
    ]
    whole, labels = 0, torch.tensor([0, 3])
    with untouched(name, black_box.module, images=images):
        results = [
            marginal_winning_probability(
                black_box, images, labels, feature_map, dual=True, expected=logits[:1]
            )
            for feature_map in outermost[-6:]
        ]
    for result in results:
        for mass in (result.own, result.dual):
            assert mass.min() >= 0
            assert mass.sum((1, 2, 3)).max() < 1 + 1e-4
            whole += bool((mass.sum((1, 2, 3)) > 1 - 1e-4).all())
    assert whole >= 2 * min(2, len(outermost))  # layers that nothing bypasses


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.start, self.head = nn.Conv2d(3, 8, 3, stride=2), nn.Linear(8, 3)

    def forward(self, x):
        x = self.start(x).flatten(2).transpose(1, 2)
        return self.head(F.scaled_dot_product_attention(x, x, x).mean(1))


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.start, self.head = nn.Conv2d(3, 8, 3, stride=2), nn.Linear(8, 3)

    def forward(self, x):
        x = self.start(x)
        F.relu(x, inplace=True)
        return self.head(x.mean((2, 3)))


class Odd(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.start, self.head, self.function = (
            nn.Conv2d(3, 8, 3, stride=2),
            nn.Linear(8, 3),
            function,
        )

    def forward(self, x):
        return self.head(self.function(self.start(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Attention(), "'ScaledDotProduct|'Bmm|'Unsafe|'Softmax"),
        (InPlace(), "in place"),
        (Odd(lambda x: x - x.mean(1, keepdim=True)), "'Sub'"),
        (Odd(lambda x: -x), "'Neg'"),
        (Odd(lambda x: x**2), "'Pow'"),
        (Odd(lambda x: torch.einsum("bchw,bdhw->bchw", x, x)), "has no rule for the operation"),
        (Odd(torch.jit.script(nn.Conv2d(8, 8, 1))), "'Convolution'"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else value,
)
def test_operations_without_a_rule_are_refused_by_name(model, message):
    with pytest.raises(InputError, match=message) as caught:
        probability(model.eval(), "start")
    assert "rise" in str(caught.value)
