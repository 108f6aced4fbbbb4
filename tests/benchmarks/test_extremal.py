"""What is measured of a mask, against sums written out; and that a small run prints its tables."""

import argparse

import pytest
import torch
from torch import nn

from benchmarks import extremal
from benchmarks.data import Photo
from benchmarks.scoring import Scorer
from saliencykit.alternatives.blur import gaussian_blur
from saliencykit.black_boxes.torch_module import TorchBlackBox

SIDE = 32


@pytest.fixture
def black_box():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 5),
    )
    net[-1].weight.data *= 30
    return TorchBlackBox(net.eval(), mean=(0.5,) * 3, std=(0.5,) * 3, size=SIDE)


@pytest.fixture
def photo():
    return Photo(
        "x",
        torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)),
        2,
        torch.zeros(0, 4),
    )


def test_a_mask_is_scored_by_its_best_pixels_at_exactly_the_area_and_as_it_is(black_box, photo):
    mask = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    kept = extremal.score_mask(Scorer(black_box, photo), mask, 0.25)
    fill = gaussian_blur(photo.image, 20 * SIDE / 224)
    best = (mask >= mask.flatten().sort().values[-SIDE * SIDE // 4]).float()
    assert best.mean() == 0.25
    for value, m in (
        (kept.sharp, best),
        (kept.soft, gaussian_blur(best, 5 * SIDE / 224)),
        (kept.as_it_is, mask),
    ):
        with torch.no_grad():
            assert value == pytest.approx(
                black_box(photo.image * m + fill * (1 - m)).softmax(1)[0, 2].item(), abs=1e-5
            )
    assert kept.area == pytest.approx(mask.mean().item())
    assert 0 <= kept.held_out <= 1


def test_a_small_run_prints_one_row_for_each_method_and_area_and_the_cost(
    black_box, photo, monkeypatch
):
    monkeypatch.setattr(extremal, "read_photos", lambda *arguments, **more: [photo, photo])
    monkeypatch.setattr(extremal, "SIDE", SIDE)
    queried = argparse.Namespace(
        target_areas=None,
        photos=2,
        seed=0,
        steps=[1, 2],
        peer_steps=0,
        peer_masks=None,
        rounds=1,
        model="small",
    )
    table = extremal.scores_table(black_box, (0.1, 0.2), queried).splitlines()
    assert len(table) == 2 + 2 * 2
    assert table[2].startswith("| saliencykit, 1 steps | 0.1 | ")
    assert table[2].split(" | ")[7] == "2"
    assert (
        extremal.cost_table(black_box, (0.1, 0.2), queried)
        .splitlines()[2]
        .endswith("| 1.00 [1.00, 1.00] |")
    )
