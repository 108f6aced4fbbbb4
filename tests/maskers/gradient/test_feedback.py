"""Feedback against iterations written out, against guided backpropagation, and refusals."""

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import GradientError, InputError
from saliencykit.maskers.gradient.feedback import Feedback
from saliencykit.testing.black_boxes import QueryOnly
from saliencykit.testing.unchanged import untouched
from tests.helpers import fixed

IMAGES, LABELS = (
    torch.randn(3, 3, 17, 14, generator=Generator().manual_seed(0)),
    torch.tensor([0, 3, 1]),
)


class Net(nn.Module):
    def __init__(self, act=F.relu):
        super().__init__()
        self.one, self.two, self.head = (
            nn.Conv2d(3, 6, 3),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.Linear(20, 4),
        )
        self.hidden = nn.Linear(8 * 42, 20)
        self.act = act

    def forward(self, x):
        x = F.max_pool2d(self.act(self.one(x)), 2)
        return self.head(self.act(self.hidden(self.act(self.two(x)).flatten(1))))


def scores(masker, model, images=IMAGES, labels=LABELS, **black_box):
    with torch.enable_grad():
        return masker.mask(
            TorchBlackBox(model, size=tuple(images.shape[2:]), **black_box),
            images,
            labels,
            Generator(),
        ).attributions


@torch.no_grad()
def by_hand(net, image, label, iterations, neuron_cost):
    """Iterations without autograd; the logit with the gates of each, and how many gates a iteration
    changed.
    """
    one = two = pooled = three = None
    history = []
    for _ in range(iterations):
        x1 = F.conv2d(image, net.one.weight, net.one.bias)
        a1 = x1.clamp_min(0)
        p, places = F.max_pool2d(a1 if one is None else a1 * one, 2, return_indices=True)
        x2 = F.conv2d(p if pooled is None else p * pooled, net.two.weight, net.two.bias, padding=1)
        a2 = x2.clamp_min(0)
        x3 = F.linear(
            (a2 if two is None else a2 * two).flatten(1), net.hidden.weight, net.hidden.bias
        )
        a3 = x3.clamp_min(0)
        logit = (
            (a3 if three is None else a3 * three) * net.head.weight[label]
        ).sum() + net.head.bias[label]
        slope = net.head.weight[label][None]
        new_three = (slope * a3 > neuron_cost) & (True if three is None else three)
        slope = ((slope * new_three * (x3 > 0)) @ net.hidden.weight).view_as(a2)
        new_two = (slope * a2 > neuron_cost) & (True if two is None else two)
        slope = F.conv_transpose2d(slope * new_two * (x2 > 0), net.two.weight, padding=1)
        new_pooled = (slope * p > neuron_cost) & (True if pooled is None else pooled)
        slope = F.max_unpool2d(slope * new_pooled, places, 2, output_size=a1.shape[2:])
        new_one = (slope * a1 > neuron_cost) & (True if one is None else one)
        slope = F.conv_transpose2d(slope * new_one * (x1 > 0), net.one.weight)
        pairs = (
            (one, new_one, a1),
            (pooled, new_pooled, p),
            (two, new_two, a2),
            (three, new_three, a3),
        )
        changed = sum(
            int((((a != 0) if old is None else old) != new)[a != 0].sum()) for old, new, a in pairs
        )
        history.append((float(logit), changed))
        one, two, pooled, three = new_one, new_two, new_pooled, new_three
        if changed == 0:
            break
    return slope.abs().amax(1)[0], history


@pytest.mark.parametrize(
    ("iterations", "neuron_cost"), [(1, 0.0), (2, 0.0), (30, 0.0), (30, 0.002)]
)
def test_results_equal_iterations_without_autograd(iterations, neuron_cost):
    net = fixed(Net, 2)
    attributions = scores(
        Feedback(iterations=iterations, neuron_cost=neuron_cost, tolerance=0.0), net
    )
    for row, label in enumerate(LABELS.tolist()):
        slow, history = by_hand(net, IMAGES[row : row + 1], label, iterations, neuron_cost)
        assert torch.allclose(attributions[row, 0], slow, atol=1e-6)
        assert slow.max() > 1e-3
        if iterations > 2:
            assert history[-1][1] == 0  # converged
            assert len(history) > 2


def test_closing_gates_raises_the_logit():
    net = fixed(Net, 2)
    for row, label in enumerate(LABELS.tolist()):
        _, history = by_hand(net, IMAGES[row : row + 1], label, 30, 0.0)
        assert history[-1][0] > history[0][0] + 0.1


def test_the_first_iteration_is_guided_backpropagation():
    from captum.attr import GuidedBackprop

    net = fixed(
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.LazyLinear(4),
        ),
        2,
    )
    with torch.no_grad():
        net(IMAGES)
    ours = scores(Feedback(iterations=1), net)
    theirs = (
        GuidedBackprop(net).attribute(IMAGES.clone(), target=LABELS).abs().amax(1, keepdim=True)
    )
    assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 3, None])
def test_each_image_has_its_own_iterations(batch_size):
    net = fixed(Net, 2)
    whole = scores(Feedback(), net)
    assert torch.allclose(scores(Feedback(batch_size=batch_size), net), whole, atol=1e-5)
    assert torch.allclose(
        scores(Feedback(batch_size=batch_size), net, IMAGES.flip(0), LABELS.flip(0)).flip(0),
        whole,
        atol=1e-5,
    )
    assert torch.allclose(
        scores(Feedback(batch_size=batch_size), net, max_batch_size=1), whole, atol=1e-5
    )


@pytest.mark.parametrize(
    "act",
    [
        *(F.silu, F.gelu, F.leaky_relu, F.relu6),
        lambda x: F.relu(x, inplace=True),
        lambda x: x.relu_(),
        lambda x: x.clamp(min=0),
        lambda x: torch.stack([x, 0 * x]).amax(0),
    ],
)
def test_other_and_in_place_activations_are_gated(act):
    net = fixed(lambda: Net(act), 2).train()
    with untouched("feedback", net, images=IMAGES):
        attributions = scores(Feedback(iterations=3), net)
    assert attributions.shape == (3, 1, 17, 14)
    assert torch.isfinite(attributions).all()
    assert attributions.max() > 0
    if "relu" in getattr(act, "__name__", "lambda") and act is not F.leaky_relu:
        assert torch.allclose(
            attributions, scores(Feedback(iterations=3), fixed(Net, 2)), atol=1e-6
        )


class Clamp(nn.Module):
    def forward(self, x):
        return x.clamp(0, 6)


def test_in_place_modules_of_a_folded_trunk_are_gated_as_their_functions_are():
    def trunk(*acts):
        layers = [(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), (nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))]
        stages = [layer for pair, act in zip(layers, acts, strict=True) for layer in (*pair, act)]
        return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()

    in_place = scores(
        Feedback(), fixed(lambda: trunk(nn.ReLU6(inplace=True), nn.ReLU6(inplace=True)), 2)
    )
    assert in_place.abs().max() > 0
    torch.testing.assert_close(
        in_place, scores(Feedback(), fixed(lambda: trunk(Clamp(), Clamp()), 2))
    )


class Patches(nn.Module):
    """Runs its layers on a batch of the quarters of each image."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU())

    def forward(self, x):
        quarters = [part for half in x.chunk(2, 2) for part in half.chunk(2, 3)]
        return self.layers(torch.cat(quarters)).mean((2, 3)).view(4, len(x), -1).sum(0)


def test_parts_of_an_image_in_a_batch_are_gated_one_image_at_a_time():
    net, images = fixed(Patches), IMAGES[..., :16, :14]
    whole = scores(Feedback(), net, images)
    assert whole.abs().amax((1, 2, 3)).min() > 0
    for image, label, wanted in zip(images, LABELS, whole, strict=True):
        assert torch.allclose(scores(Feedback(), net, image[None], label[None])[0], wanted)
    with pytest.raises(InputError, match=r"batch_size=1"):
        scores(Feedback(batch_size=3), net, images)


def test_the_mask_is_the_attributions_over_their_maximum():
    with torch.enable_grad():
        output = Feedback().mask(
            TorchBlackBox(fixed(Net, 2), size=(17, 14)), IMAGES, LABELS, Generator()
        )
    assert torch.allclose(
        output.mask, output.attributions / output.attributions.amax((1, 2, 3), keepdim=True)
    )


class InPlace(Net):
    def forward(self, x):
        x = self.one(x)
        F.relu(x, inplace=True)
        return self.head(self.hidden(self.two(F.max_pool2d(x, 2)).flatten(1)))


def test_errors_name_maskers_that_work(black_box, examples):
    with pytest.raises(InputError, match=r"PlantedEvidence does not expose.*rise"):
        Feedback()(black_box, *examples, generator=Generator())
    with pytest.raises(GradientError, match="rise"):
        Feedback()(QueryOnly(black_box), *examples, generator=Generator())
    with pytest.raises(InputError, match=r"no ReLU.*rise"):
        scores(Feedback(), nn.Sequential(nn.Flatten(), nn.Linear(3 * 17 * 14, 4)))
    with pytest.raises(InputError, match=r"in place.*rise"):
        scores(Feedback(), fixed(InPlace, 2))
    for act, words in ((lambda x: x * x.sigmoid(), "'mul'"), (torch.jit.script(nn.ReLU()), "Relu")):
        with pytest.raises(InputError, match=f"{words}.*cannot gate.*rise"):
            scores(Feedback(), fixed(lambda: Net(act), 2))  # noqa: B023


@pytest.mark.parametrize(
    "wrong",
    [
        {"iterations": 0},
        {"batch_size": 0},
        {"neuron_cost": -1.0},
        {"tolerance": 1.0},
        {"iterations": 2.5},
    ],
)
def test_bad_arguments_are_refused_at_construction(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Feedback(**wrong)
