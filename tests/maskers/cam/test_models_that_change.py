"""Class activation maps of models that change between two calls, and of half-precision models."""

import copy

import pytest
import torch
from torch import nn

from saliencykit import explain
from saliencykit.core.errors import InputError
from tests.helpers import seeded

MASKERS = (
    "cam",
    "grad-cam",
    "score-cam",
    "ablation-cam",
    "hires-cam",
    "excitation-backprop:layer=0",
)
IMAGE = torch.randn(1, 3, 32, 32, generator=seeded())


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 7),
    ).eval()  # fmt: skip


def mask(model: nn.Module, masker: str) -> torch.Tensor:
    """The mask, or an empty one where the masker refuses the model."""
    try:
        return explain(model, IMAGE, 1, masker=masker, verify=False).mask
    except InputError:
        return torch.zeros(1, 1, 32, 32)


CHANGES = {
    "a new head": lambda model: model.__setitem__(4, nn.Linear(16, 3)),
    "a head of two modules": lambda model: model.__setitem__(
        4, nn.Sequential(nn.Dropout(0.2), nn.Linear(16, 3)).eval()
    ),
    "other weights": lambda model: nn.init.normal_(model[4].weight, std=1.0),
    "other weights everywhere": lambda model: model.load_state_dict(
        {key: values.flip(0) for key, values in model.state_dict().items() if values.ndim},
        strict=False,
    ),
    "weights swapped through .data": lambda model: [
        parameter.data.copy_(parameter.data.flip(0)) for parameter in model.parameters()
    ],
    "assigned weights": lambda model: model.load_state_dict(
        {key: values.flip(0) for key, values in model.state_dict().items() if values.ndim},
        strict=False,
        assign=True,
    ),
    "a deeper trunk": lambda model: model[1].extend([nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU()]),
    "a patched forward": lambda model: setattr(
        model[1], "forward", lambda x, layers=tuple(model[1]): layers[1](layers[0](x.flip(1)))
    ),
    "a hook before the head": lambda model: model[4].register_forward_pre_hook(
        lambda _, given: (given[0] * torch.linspace(-1, 1, 16),)
    ),
    "a normed weight": lambda model: torch.nn.utils.parametrizations.weight_norm(model[4]),
}
QUICK = (
    "a head of two modules",
    "other weights everywhere",
    "assigned weights",
    "a patched forward",
)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("masker", MASKERS)
@pytest.mark.parametrize(
    "change",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in CHANGES],
)
def test_a_model_that_changed_is_explained_like_one_never_seen_before(
    change: str, masker: str
) -> None:
    model = network()
    mask(model, masker)
    CHANGES[change](model)
    assert torch.allclose(mask(model, masker), mask(copy.deepcopy(model), masker), atol=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("masker", [name for name in MASKERS if "excitation" not in name])
def test_a_half_precision_model_gets_nearly_the_mask_of_the_whole_one(
    masker: str, dtype: torch.dtype
) -> None:
    model = network()
    half = copy.deepcopy(model).to(dtype)
    assert float((mask(half, masker) - mask(model, masker)).abs().max()) < 0.1
