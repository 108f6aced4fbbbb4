"""Ablation-CAM against a plain loop over channels with a hook, for every kind of head."""

import pytest
import torch
from torch import Generator, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.maskers.cam.ablation_cam import AblationCam
from saliencykit.testing.black_boxes import Counting
from saliencykit.testing.unchanged import untouched

IMAGES, LABELS = (
    torch.rand(3, 3, 32, 32, generator=Generator().manual_seed(0)),
    torch.tensor([0, 3, 1]),
)


class Dense(nn.Module):
    """The output of the first layer bypasses the second."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = (
            nn.Conv2d(3, 4, 3, 2),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.Linear(8 * 15 * 15, 4),
        )
        self.join = nn.Identity()
        self.act = nn.ReLU()

    def forward(self, x):
        x = self.one(x)
        return self.head(self.act(torch.cat([x, self.two(x)], 1)).flatten(1))


class Tokens(nn.Module):
    """A small transformer that reads a class token."""

    def __init__(self):
        super().__init__()
        self.cut, self.token, self.norm = (
            nn.Conv2d(3, 8, 8, 8),
            nn.Parameter(torch.zeros(1, 1, 8)),
            nn.LayerNorm(8),
        )
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.norm(
            torch.cat(
                [self.token.expand(len(x), -1, -1), self.cut(x).flatten(2).transpose(1, 2)], 1
            )
        )
        return self.head(self.block(x)[:, 0])


def trunk():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3, stride=2),
        nn.ReLU(),
    )


HEADS = {
    "linear": lambda: nn.Sequential(
        trunk(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(6, 4)
    ),
    "convolution": lambda: nn.Sequential(
        trunk(), nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ),
    "rectified": lambda: nn.Sequential(
        trunk(), nn.Conv2d(6, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ),
    "flattened": lambda: nn.Sequential(
        trunk(), nn.Flatten(), nn.Linear(6 * 49, 16), nn.ReLU(), nn.Linear(16, 4)
    ),
    "maximum": lambda: nn.Sequential(
        trunk(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    ),
    "dense": Dense,
    "tokens": Tokens,
}
LAYERS = {"maximum": "0", "dense": "act", "tokens": "norm"}


def model_of(kind, seed=3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = HEADS[kind]().eval()
    if kind == "rectified":
        nn.init.constant_(model[1].bias, 0.2)  # no logit is 0
    return model


def scores(model, images=IMAGES, labels=LABELS, layer=None, **black_box):
    with torch.no_grad():
        return (
            AblationCam(layer=layer)
            .mask(TorchBlackBox(model, size=32, **black_box), images, labels, Generator())
            .attributions
        )


@torch.no_grad()
def slowly(model, name, image, label):
    """Equations 3 and 4: channels zeroed one at a time by a hook on the user's own model."""
    seen = {}
    tokens = isinstance(model, Tokens)

    def look(module, given, output):
        seen["maps"] = output.clone()

    def without(k):
        def hook(module, given, output):
            output = output.clone()
            if tokens:
                output[:, 1:, k] = 0
            else:
                output[:, k] = 0
            return output

        return hook

    layer = model.get_submodule(name)
    handle = layer.register_forward_hook(look)
    y = model(image)[0, label]
    handle.remove()
    maps = seen["maps"][:, 1:].transpose(1, 2).reshape(1, 8, 4, 4) if tokens else seen["maps"]
    total = torch.zeros(maps.shape[2:])
    for k in range(maps.shape[1]):
        handle = layer.register_forward_hook(without(k))
        total += (y - model(image)[0, label]) / y.abs() * maps[0, k]
        handle.remove()
    return total


@pytest.mark.parametrize("kind", HEADS)
def test_equals_a_plain_loop_over_channels(kind):
    model, name = model_of(kind), LAYERS.get(kind, "0")
    with untouched("ablation", model, images=IMAGES):
        result = scores(model, layer=LAYERS.get(kind))
    for row, label in enumerate(LABELS):
        slow = slowly(model, name, IMAGES[row : row + 1], label)
        assert torch.allclose(result[row, 0], slow, atol=1e-4 * float(slow.abs().max()))
        assert slow.abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["linear", "rectified"])
def test_a_pooled_head_takes_one_forward_pass(kind):
    model = model_of(kind)
    queried = []
    handle = model.register_forward_pre_hook(lambda module, given: queried.append(len(given[0])))
    scores(model)  # finds the head
    queried.clear()
    scores(model)
    handle.remove()
    assert queried == [3]


@pytest.mark.parametrize("kind", ["linear", "rectified", "flattened", "tokens"])
def test_a_map_does_not_depend_on_its_batch_or_on_chunks(kind):
    model, layer, images = model_of(kind).double(), LAYERS.get(kind), IMAGES.double()
    whole = scores(model, images, layer=layer)
    close = 1e-10 * float(whole.abs().max())  # scores are differences of logits

    def same(found, wanted):
        return torch.allclose(found, wanted, rtol=0, atol=close)

    assert same(scores(model, images, layer=layer, max_batch_size=2), whole)
    assert same(scores(model, images[1:2], LABELS[1:2], layer), whole[1:2])
    assert same(scores(model, images.flip(0), LABELS.flip(0), layer).flip(0), whole)


def test_a_negative_logit_does_not_flip_the_map():
    model = model_of("linear")
    with torch.no_grad():
        result = scores(model)
        model[4].bias.fill_(-100.0)
        moved = scores(model)
    assert torch.corrcoef(torch.stack([result.flatten(1)[0], moved.flatten(1)[0]]))[0, 1] > 0.999


def test_errors_give_advice(black_box, examples):
    with pytest.raises(InputError, match=r"Counting does not expose.*rise"):
        AblationCam()(Counting(black_box), *examples, generator=Generator())
    with pytest.raises(InputError, match="nine"):
        scores(model_of("linear"), layer="nine")
    with pytest.raises(InputError, match=r"alone; name a layer"):
        scores(model_of("dense"), layer="two")
    with pytest.raises(InputError, match="dotted name"):
        AblationCam(layer="")
