"""A ReLU in a hundred spellings: each masker that changes what a ReLU does follows its rule there,
or refuses; none returns the plain gradient.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.registry.coerce import as_masker
from tests.helpers import fixed, seeded

aten = torch.ops.aten
INF = float("inf")


def zeros(x: Tensor) -> Tensor:
    return torch.zeros_like(x)


def number(value: float = 0.0) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def assigned(x: Tensor) -> Tensor:
    x = x.clone()
    x[x < 0] = 0
    return x


def assigned_where_positive(x: Tensor) -> Tensor:
    y = zeros(x)
    y[x > 0] = x[x > 0]
    return y


def without_the_result(function):
    def changed(x: Tensor) -> Tensor:
        x = x.clone()
        function(x)
        return x

    return changed


class Custom(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient * (ctx.saved_tensors[0] > 0)


SPELLINGS = {
    # bounds
    "relu_": lambda x: x.clone().relu_(),
    "clip": lambda x: torch.clip(x, 0),
    "clip to a tensor": lambda x: torch.clip(x, min=number()),
    "clamp to a map": lambda x: x.clamp(min=zeros(x[0])),
    "clip_, result unused": without_the_result(lambda x: torch.clip_(x, 0)),
    "clamp_, result unused": without_the_result(lambda x: x.clamp_(min=0)),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "threshold_, result unused": without_the_result(lambda x: F.threshold_(x, 0, 0)),
    "nn.Threshold": nn.Threshold(0, 0),
    "hardtanh": lambda x: F.hardtanh(x, 0, INF),
    "hardtanh_": lambda x: F.hardtanh_(x.clone(), 0.0, 1e9),
    "nn.Hardtanh": nn.Hardtanh(0, INF, inplace=True),
    "_nn.hardtanh": lambda x: torch._C._nn.hardtanh(x, 0.0, 1e9),
    "relu6 of less": lambda x: F.relu6(x / 1e3) * 1e3,
    "maximum": lambda x: torch.maximum(x, zeros(x)),
    "maximum, reversed": lambda x: torch.maximum(number(), x),
    "maximum with itself": lambda x: torch.maximum(x, x - x),
    "maximum with a parameter": lambda x: torch.maximum(x, nn.Parameter(number())),
    "maximum, permuted": lambda x: torch.maximum(x.mT, number()).mT,
    "fmax": lambda x: torch.fmax(x, zeros(x)),
    "minimum of the negative": lambda x: -torch.minimum(-x, zeros(x)),
    "less its negative part": lambda x: x - x.clamp(max=0),
    "each channel": lambda x: torch.stack([c.clamp(min=0) for c in x.unbind(1)], 1),
    "halves": lambda x: torch.cat([torch.maximum(c, zeros(c)) for c in x.chunk(2, 1)], 1),
    # slopes
    "prelu": lambda x: F.prelu(x, number().view(1)),
    "nn.PReLU": nn.PReLU(init=0.0),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.0, True),
    "rrelu": lambda x: F.rrelu(x, 0.0, 0.0),
    "elu": lambda x: F.elu(x, 0.0),
    "softplus": lambda x: F.softplus(x, beta=1e6),
    "hardswish": lambda x: F.hardswish(x * 1e9) / 1e9,
    "hardshrink": lambda x: F.hardshrink(x, 0.0).clamp(min=0),
    "logaddexp": lambda x: torch.logaddexp(x * 1e6, zeros(x)) / 1e6,
    "with its absolute value": lambda x: (x + x.abs()) / 2,
    "with its root": lambda x: (x + (x * x).sqrt()) / 2,
    "hypot": lambda x: (x + torch.hypot(x, zeros(x))) / 2,
    "complex": lambda x: (torch.complex(x, zeros(x)).abs() + x) / 2,
    "exp of log": lambda x: torch.exp(torch.log(x.clamp(min=1e-30))),
    # masks
    "where": lambda x: torch.where(x < 0, 0, x),
    "where, as a method": lambda x: x.where(x > 0, number()),
    "masked_fill_": lambda x: x.clone().masked_fill_(x < 0, 0),
    "assignment": assigned,
    "assignment of the rest": assigned_where_positive,
    "masked_scatter": lambda x: zeros(x).masked_scatter(x > 0, x[x > 0]),
    "index_put_": lambda x: x.clone().index_put_((x < 0,), number()),
    "index_put at positions": lambda x: x.index_put(torch.where(x < 0), number()),
    "times a mask": lambda x: x.clone().mul_(x > 0),
    "times a mask of numpy": lambda x: x * torch.from_numpy((x.detach().numpy() > 0) * 1.0),
    "times the sign": lambda x: x * torch.sign(x).clamp(min=0),
    "times heaviside": lambda x: x * torch.heaviside(x, number().view(1)),
    "times expit": lambda x: x * torch.special.expit(1e9 * x),
    "times hardsigmoid": lambda x: x * F.hardsigmoid(1e9 * x),
    "lerp": lambda x: torch.lerp(zeros(x), x, (x > 0).double()),
    "addcmul": lambda x: torch.addcmul(zeros(x), x, (x > 0).double()),
    "bmm": lambda x: torch.bmm(x.reshape(-1, 1, 1), (x > 0).double().view(-1, 1, 1)).view_as(x),
    "nan_to_num": lambda x: torch.nan_to_num(x.where(x > 0, number(float("nan"))), 0.0),
    "straight through": lambda x: x + (x.clamp(min=0) - x).detach(),
    # a maximum of several
    "max_pool1d": lambda x: F.max_pool1d(
        torch.stack([x, zeros(x)], -1).flatten(1, 2).flatten(1, 2).flatten(1)[:, None], 2
    ).view_as(x),
    "max_pool3d": lambda x: F.max_pool3d(torch.stack([x, zeros(x)], 2), (2, 1, 1)).squeeze(2),
    "nn.MaxPool3d": lambda x: nn.MaxPool3d((2, 1, 1))(
        torch.stack([x, x.new_zeros(x.shape)], 2)
    ).squeeze(2),
    "adaptive_max_pool3d": lambda x: F.adaptive_max_pool3d(
        torch.stack([x, zeros(x)], 2), (1, None, None)
    ).squeeze(2),
    "amax": lambda x: torch.stack([x, zeros(x)]).amax(0),
    "max": lambda x: torch.stack([x, zeros(x)]).max(0).values,
    "unfold and amax": lambda x: torch.stack([x, zeros(x)], -1).unfold(-1, 2, 2).amax((-1, -2)),
    "topk": lambda x: torch.stack([x, zeros(x)]).topk(1, 0).values[0],
    "cummax": lambda x: torch.cummax(torch.stack([x, zeros(x)]), 0).values[1],
    "sort": lambda x: torch.stack([x, zeros(x)]).sort(0).values[1],
    "kthvalue": lambda x: torch.stack([x, zeros(x)]).kthvalue(2, 0).values,
    "quantile": lambda x: torch.quantile(torch.stack([x, zeros(x)]), 1.0, 0),
    "median": lambda x: torch.stack([x, zeros(x), zeros(x) + 1e9]).median(0).values,
    "aminmax": lambda x: torch.aminmax(torch.stack([x, zeros(x)]), dim=0).max,
    "logsumexp": lambda x: torch.logsumexp(torch.stack([x, zeros(x)]) * 1e6, 0) / 1e6,
    "take_along_dim": lambda x: torch.take_along_dim(
        torch.stack([zeros(x), x]), (x > 0).long()[None], 0
    )[0],
    "index": lambda x: torch.stack([zeros(x), x]).flatten(1)[
        (x > 0).long().flatten(), torch.arange(x.numel())
    ].view_as(x),
    "scatter_reduce": lambda x: zeros(x)
    .view(-1)
    .scatter_reduce(0, torch.arange(x.numel()), x.reshape(-1), "amax")
    .view_as(x),
    "index_reduce": lambda x: zeros(x).index_reduce(0, torch.arange(len(x)), x, "amax"),
    # other ways to call it
    "aten.relu": aten.relu,
    "aten.relu.default": aten.relu.default,
    "aten.clamp_min": lambda x: aten.clamp_min(x, 0),
    "aten.maximum": lambda x: aten.maximum(x, zeros(x)),
    "aten.where": lambda x: aten.where(x > 0, x, zeros(x)),
    "vmap": lambda x: torch.vmap(torch.relu)(x),
    "vmap of clamp": lambda x: torch.vmap(lambda row: row.clamp(min=0))(x),
    "TorchScript": torch.jit.script(nn.ReLU()),
    "an autograd function": Custom.apply,
    "fold": lambda x: F.fold(F.relu(F.unfold(x, 1)), x.shape[2:], 1),
    "in float32": lambda x: x.float().clamp(min=0).double(),
}  # fmt: skip


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, padding=1)
        self.head, self.relu = nn.Linear(6 * 8 * 8, 4), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(x))
        return self.head(self.relu(self.second(x)).flatten(1))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*beta.*:UserWarning")
@pytest.mark.parametrize(
    ("masker", "mostly"),
    [
        ("guided-backprop", 45),
        ("deconvolution", 45),
        ("feedback:iterations=3", 45),
        # a maximum of several passes all to its winner, which may be the 0
        ("excitation-backprop:layer=first", 30),
        ("contrastive-excitation-backprop:layer=first", 30),
    ],
)
def test_a_relu_is_followed_or_refused_however_it_is_written(masker: str, mostly: int) -> None:
    x, label = torch.rand(1, 3, 16, 16, generator=seeded(1)).double(), torch.tensor([1])

    def mask(relu: object, masker: str = masker) -> Tensor:
        model = fixed(Net).double()
        del model.relu
        model.relu = relu.double() if isinstance(relu, nn.Module) else relu
        torch.testing.assert_close(model(x), fixed(Net).double()(x), rtol=0, atol=1e-6)
        black_box = TorchBlackBox(model, size=16)
        return as_masker(masker).attribute(black_box, x, label, generator=seeded()).mask

    wanted, refused = mask(F.relu), []
    tolerance = 0.01 if "excitation" in masker else 1e-5
    assert (mask(F.relu, "gradient") - wanted).abs().mean() > 0.1
    for spelling, relu in SPELLINGS.items():
        try:
            got = mask(relu)
        except InputError as error:
            refused.append(str(error))
            continue
        assert (got - wanted).abs().mean() < tolerance, spelling
    assert len(SPELLINGS) - len(refused) >= mostly
    assert not [line for line in refused if "raised" in line]
