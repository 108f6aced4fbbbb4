"""The race's bookkeeping, on made-up sides; its timings are no test. That the metrics agree is
tested in tests/metrics.
"""

import torch
from torch import nn

from benchmarks.evaluation import Clock
from benchmarks.quantus_race import Spent, counting, line, spend, together


def test_images_are_counted_once_whatever_the_network_is_made_of():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Sequential(nn.ReLU()))
    spent = spend(lambda: [net(torch.rand(3, 3, 2, 2)), net(torch.rand(1, 3, 2, 2))], 5)
    assert spent.images == 4
    assert 0 < spent.outside < spent.total


def test_the_module_is_given_back():
    before = nn.Module.__call__
    with counting(Clock()) as queried:
        nn.Identity()(torch.zeros(7))
    assert nn.Module.__call__ is before
    assert queried == [7]


def test_a_line_has_the_median_of_the_ratios():
    ours, theirs = [Spent(1.0, 0.1, 8)] * 3, [Spent(t, 1.0, 8) for t in (2.0, 3.0, 9.0)]
    cells = [
        cell.strip()
        for cell in line("deletion", "PixelFlipping", ours, theirs, 4).strip("| ").split("|")
    ]
    assert cells[:5] == ["deletion", "PixelFlipping", "2", "250", "750"]
    assert cells[5].startswith("3.00")
    assert cells[8].startswith("10.00")


def test_sums_are_by_round():
    one, two = [Spent(1.0, 0.5, 4), Spent(2.0, 1.0, 4)], [Spent(3.0, 0.5, 2), Spent(5.0, 0.0, 2)]
    assert together([one, two]) == [Spent(4.0, 1.0, 6), Spent(7.0, 1.0, 6)]
