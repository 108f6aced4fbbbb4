"""The clock of the evaluation's profile, on made-up work; its timings are no test."""

import time
from argparse import Namespace

import pytest
import torch
from torch import nn

from benchmarks.evaluation import REST, Clock, profile, table
from saliencykit.core.metric import Sample
from saliencykit.registry.coerce import as_masker, as_metric
from saliencykit.testing.black_boxes import PlantedEvidence


@pytest.fixture
def busy(monkeypatch):
    """Work that takes so many seconds of a clock on which nothing else takes any."""
    now = 0.0

    def work(seconds):
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "process_time", lambda: now)
    return work


class Busy(nn.Module):
    def __init__(self, busy, inner=None):
        super().__init__()
        self.busy, self.inner = busy, inner

    def forward(self, x):
        self.busy(0.02)
        return x if self.inner is None else self.inner(x)


def test_time_goes_to_whom_it_belongs_and_only_networks_are_inside(busy):
    clock, net = Clock(), Busy(busy, Busy(busy))
    with clock.networks():
        clock.start()
        busy(0.01)
        with clock.spending("metric"):
            busy(0.03)
            net(torch.zeros(1))
            with clock.spending("masker"):
                net(torch.zeros(1))
        clock.turn()
    assert clock.calls == 2
    assert not clock.in_network
    assert clock.inside == pytest.approx({"metric": 0.04, "masker": 0.04})
    assert clock.total == pytest.approx({REST: 0.01, "metric": 0.07, "masker": 0.04})
    assert nn.Module.__call__ is not None
    net(torch.zeros(1))
    assert clock.calls == 2  # outside of the block nothing is counted


def test_gradients_are_inside_and_calls_are_named():
    clock, black_box = Clock(), PlantedEvidence()
    sample = Sample(*black_box.examples(2, generator=torch.Generator().manual_seed(0)))
    masker, metric = as_masker("gradient"), as_metric("insertion:steps=3")
    with clock.networks(), clock.things({id(masker): "masker", id(metric): "metric"}):
        clock.start()
        mask = masker(
            black_box, sample.images, sample.labels, generator=torch.Generator().manual_seed(0)
        )
        metric(
            black_box,
            sample,
            mask,
            explain=black_box.evidence,
            generator=torch.Generator().manual_seed(0),
        )
        clock.turn()
    assert clock.calls >= 1
    assert {"masker", "metric"} <= set(clock.total)
    assert "masker" in clock.inside, "however coarse the clock of this machine"


def test_the_table():
    clock = Clock()
    clock.total.update({"a": 2.0, "b": 6.0})
    clock.inside.update({"b": 6.0})
    lines = table(clock, 4).splitlines()
    assert lines[2] == "| b | 1500.0 | 75.0% | 100.0% | 0.0 |"
    assert lines[3] == "| a | 500.0 | 25.0% | 0.0% | 500.0 |"
    assert lines[4] == "| **all** | 2000.0 | 100.0% | 75.0% | 500.0 |"


@pytest.mark.data
@pytest.mark.slow
def test_a_small_one():
    clock = profile(
        Namespace(photos=1, maskers=["center-box"], masker="", metrics=["average-drop"], batch=1)
    )
    assert clock.inside["average-drop"] > 0
    assert clock.inside["center-box"] == 0
