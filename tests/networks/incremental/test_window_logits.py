"""Answers: the same numbers by either way, the right way chosen, and nothing left behind."""

import numpy as np
import pytest
import torch
from torch import Generator, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import ContractError
from saliencykit.networks.incremental import window_logits as module
from saliencykit.networks.incremental.filled_windows import FilledWindows
from saliencykit.networks.incremental.window_logits import WindowLogits
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.testing.unchanged import untouched


def deep(*extra, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = [
            nn.Conv2d(3, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(),
        ]
        return nn.Sequential(*body, *extra, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))


def photos(count=3, side=48):
    images = torch.rand(2 * count, 3, side, side, generator=Generator().manual_seed(7))
    return list(zip(images[:count, None], images[count:, None].flip(-1), strict=True))


def queried(model, windows, count=1, side=48, regions=None):
    """Our answers and full passes on the user's own model, and the asker."""
    own = TorchBlackBox(model, mean=(0.5,) * 3, std=(0.25,) * 3)
    chosen = photos(count, side)
    own(chosen[0][0])
    query, pairs = None, []
    for image, fill in chosen:
        query = query or WindowLogits(own.optimized_for(image), windows)
        with torch.no_grad():
            filled = FilledWindows(image, fill, windows, regions)
            pairs.append((query(filled), own(filled.edits(range(-1, len(windows))))))
    return query, torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs])


def test_several_images_share_a_plan(grid):
    query, got, wanted = queried(deep(), grid((48, 48), 8, 6), count=3)
    assert query.incremental, query.reason
    assert torch.allclose(got, wanted, atol=1e-5)
    assert got.shape == (3, 1 + 64, 5)


def test_the_users_model_stays_as_it_was(grid):
    model = deep().train()
    image, fill = photos(1)[0]
    black_box = TorchBlackBox(model)
    black_box(image)
    with untouched("WindowLogits", model, image=image, fill=fill), torch.no_grad():
        windows = grid((48, 48), 8, 6)
        query = WindowLogits(black_box.optimized_for(image), windows)
        query(FilledWindows(image, fill, windows))
    assert query.incremental


class Deciding(nn.Module):
    def forward(self, x):
        return x if float(x.detach().mean()) > 1e6 else x + 1


class Drawing(nn.Module):
    """Not a function of a place: which numbers are dropped depends on how many there are."""

    def forward(self, x):
        return nn.functional.dropout(x, 0.5, training=True)


class Whole(nn.Module):
    def forward(self, x):
        return x - x.mean((1, 2, 3), keepdim=True)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        return x + self.inner(tokens, tokens, tokens)[0].transpose(1, 2).view(x.shape)


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ([Deciding()], "reads values"),
        ([Drawing()], ""),
        ([Attention(), nn.Conv2d(16, 16, 9, padding=4)], ""),
    ],
)
def test_what_cannot_be_split_is_queried_in_full_passes(grid, layers, says):
    query, got, wanted = queried(deep(*layers), grid((24, 24), 6, 4), side=24)
    assert not query.incremental
    assert says in query.reason
    if not isinstance(layers[0], Drawing):
        assert torch.allclose(got, wanted, atol=1e-5)


def test_what_needs_all_in_the_middle_is_still_worth_it_before(grid):
    query, got, wanted = queried(
        deep(Whole(), nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)), grid((48, 48), 8, 6)
    )
    assert query.incremental, query.reason
    assert torch.allclose(got, wanted, atol=1e-5)


def test_a_plan_that_answers_wrongly_is_dropped(grid, monkeypatch):
    rule = module.Runner._compute
    monkeypatch.setattr(module.Runner, "_compute", lambda *args: rule(*args) * 1.01)
    query, got, wanted = queried(deep(), grid((48, 48), 8, 6))
    assert not query.incremental
    assert "differs from the full pass" in query.reason
    assert torch.allclose(got, wanted, atol=1e-5)


def test_few_windows_and_black_boxes_without_a_module_are_queried_in_full_passes(grid):
    query, got, wanted = queried(deep(), grid((48, 48), 24, 12))
    assert not query.incremental
    assert torch.allclose(got, wanted, atol=1e-5)
    windows, (image, fill) = grid((48, 48), 8, 6), photos(1)[0]
    query = WindowLogits(PlantedEvidence(), windows)
    query(FilledWindows(image, fill, windows))
    assert "without a torch module" in query.reason


def test_memory_limits_the_groups(grid, monkeypatch):
    monkeypatch.setattr(module, "CACHED_BLOCK_BYTES", 16 * 24 * 24 * 4 * 3)
    query, got, wanted = queried(deep(), grid((48, 48), 8, 6))
    assert query.incremental, query.reason
    assert max(len(cone.windows) for cone in query._runner.cones) <= 8
    assert torch.allclose(got, wanted, atol=1e-5)


def test_neighbors_hold_each_window_once_and_lie_together(grid):
    windows = grid((48, 48), 8, 4)
    groups = module._adjacent_groups(windows, np.arange(len(windows)), 10)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(windows)))
    assert max(len(group) for group in groups) <= 10
    assert max(np.ptp(windows.top[group]) for group in groups) <= 24


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(grid, dtype):
    query, got, wanted = queried(deep().to(dtype), grid((48, 48), 8, 6))
    assert query.incremental or dtype == torch.bfloat16
    assert torch.allclose(got, wanted, atol=1e-6 if dtype == torch.float64 else 3e-2)


def test_a_hooked_model_answers_as_it_does(grid):
    model = deep()
    model[2].register_forward_hook(lambda module, args, out: out * 3)
    query, got, wanted = queried(model, grid((48, 48), 8, 6))
    assert torch.allclose(got, wanted, atol=1e-4)
    assert (wanted[0, 0] - queried(deep(), grid((48, 48), 8, 6))[2][0, 0]).abs().max() > 1e-3
    assert query.incremental, query.reason


def test_a_black_box_of_one_image_at_a_time_is_never_evaluated_on_two(grid):
    windows, (image, fill) = grid((48, 48), 8, 6), photos(1)[0]
    black_box = TorchBlackBox(deep(), size=48, max_batch_size=1)
    query = WindowLogits(
        black_box.optimized_for(image), windows, max_batch_size=black_box.max_batch_size
    )
    query(FilledWindows(image, fill, windows))
    assert not query.incremental
    assert "one image at a time" in query.reason


class Root(nn.Module):
    def forward(self, x):
        return x.clone().abs_().sub(0.6).neg().sqrt()


def test_an_answer_that_is_not_a_number_is_the_boxs_error_as_ever(grid):
    windows = grid((48, 48), 8, 6)
    dark, bright = torch.full((1, 3, 48, 48), 0.1), torch.full((1, 3, 48, 48), 0.9)
    black_box = TorchBlackBox(nn.Sequential(Root(), *deep()), size=48)
    query = WindowLogits(black_box.optimized_for(dark), windows)
    query(
        FilledWindows(
            dark + torch.rand(1, 3, 48, 48, generator=Generator().manual_seed(0)) * 0.1,
            dark,
            windows,
        )
    )
    assert query.incremental, query.reason
    with pytest.raises(ContractError, match="NaN"):
        query(FilledWindows(dark, bright, windows))
