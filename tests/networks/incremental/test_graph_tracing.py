"""Recording a black box: the batch size is inferred; only plain functions pass."""

import numpy as np
import pytest
import torch
from torch import Generator, nn

from saliencykit.black_boxes.function import FunctionBlackBox
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.networks.incremental.graph_tracing import record_trace
from saliencykit.networks.incremental.trace import BatchMultiple, UntraceableError
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.testing.unchanged import untouched


class Model(nn.Module):
    """A small classifier whose features pass through a function."""

    def __init__(self, function):
        super().__init__()
        self.conv, self.head, self.function = nn.Conv2d(3, 4, 3), nn.LazyLinear(3), function
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        return self.head(self.function(self, self.conv(x)).flatten(1))


def traced(function):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Model(function).eval()
        image = torch.rand(1, 3, 8, 8, generator=Generator().manual_seed(0))
        model(image)  # gives the lazy layer its shape
        black_box = TorchBlackBox(model)
        black_box(image)
    with torch.no_grad():
        return record_trace(black_box, image)


def names(recorded):
    return [
        n.target.__name__
        for n in recorded.graph.nodes
        if n.op == "call_function" and n not in recorded.static
    ]


def test_calls_in_order_with_their_shapes():
    recorded = traced(lambda m, x: torch.relu(x))
    assert [n for n in names(recorded) if n not in ("mul", "to")] == [
        "conv2d",
        "relu",
        "flatten",
        "linear",
    ]
    conv = next(
        n for n in recorded.graph.nodes if n.op == "call_function" and n.target is torch.conv2d
    )
    assert conv.meta["shape"] == (1, 4, 6, 6)
    assert {tuple(recorded.static[n].shape) for n in conv.all_input_nodes[1:]} == {
        (4, 3, 3, 3),
        (4,),
    }


def test_what_doubles_with_the_batch_is_the_batch():
    recorded = traced(
        lambda m, x: x.view(x.shape[0], 2, 2, 6, 6).reshape(2 * len(x), -1).view(len(x), -1)
    )
    args = [
        n.args[1:]
        for n in recorded.graph.nodes
        if getattr(n.target, "__name__", "") in ("view", "reshape")
    ]
    assert args == [(BatchMultiple(1), 2, 2, 6, 6), (BatchMultiple(2), -1), (BatchMultiple(1), -1)]


def test_what_does_not_depend_on_the_image_is_static():
    recorded = traced(lambda m, x: x * (m.conv.weight.mean() + torch.ones(1)).exp())
    assert not {"mean", "ones", "exp"} & set(names(recorded))


def test_what_looks_like_the_image_and_holds_other_numbers_is_static():
    recorded = traced(
        lambda m, x: x + torch.arange(4.0).view(1, 4, 1, 1).to(x) + x.new_ones(1, 4, 1, 1)
    )
    assert names(recorded).count("add") == 2
    assert "new_ones" not in names(recorded)


def outside(m, x):
    return torch.from_numpy(np.asarray(x.detach().numpy()) * 2)


class Squares(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        with torch._C.DisableTorchFunction():
            return x * x


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda m, x: x if x.mean() > 0 else -x, "__bool__ reads values"),
        (lambda m, x: x * x.max().item(), "item reads values"),
        (lambda m, x: x * float(x.detach().sum()), "__float__ reads values"),
        (outside, "numpy reads values"),
        (lambda m, x: x.tolist() and x, "tolist reads values"),
        (lambda m, x: x.__setitem__((0, 0), 0.0) or x, "__setitem__ reads values"),
        (lambda m, x: x * (3 - len(x)), "with one image"),
        (lambda m, x: x if len(x) == 1 else torch.relu(x), "another path"),
        (lambda m, x: Squares.apply(x), "outside of torch functions"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(function, says):
    with pytest.raises(UntraceableError, match=says):
        traced(function)


def test_any_black_box_that_computes_with_torch_can_be_recorded_and_others_are_refused():
    with torch.no_grad():
        recorded = record_trace(PlantedEvidence(), torch.rand(1, 3, 8, 8))
        assert "conv2d" in names(recorded)
        black_box = FunctionBlackBox(
            lambda x: np.stack([x[:, 0, 0, 0], x[:, -1, -1, 0]], 1),
            num_classes=2,
            probabilities=False,
        )
        with pytest.raises(UntraceableError):
            record_trace(black_box, torch.rand(1, 3, 8, 8))


def test_the_model_and_the_image_stay_as_they_were():
    net, image = (
        nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 3)
        ).train(),
        torch.rand(1, 3, 8, 8),
    )
    black_box = TorchBlackBox(net)
    black_box(image)
    with untouched("trace", net, image=image), torch.no_grad():
        record_trace(black_box, image)
