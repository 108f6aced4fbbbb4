"""The table of Quantus' families, and what its metrics are given."""

import numpy as np
import pytest
import torch

from benchmarks.data import Photo, inside_boxes
from benchmarks.quantus_families import MOSAICS, metrics, mosaics, rows_of, table, values
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.testing.black_boxes import small_network


def row(metric, masker, numbers, failure=""):
    return {
        "masker": masker,
        "family": "f",
        "metric": metric,
        "values": numbers,
        "failure": failure,
        "seconds": 0.0,
    }


def test_the_table_counts_what_is_missing():
    rows = [
        row("A", "one", [1.0, 3.0]),
        row("A", "two", [float("nan"), 4.0]),
        row("B", "one", [], "ValueError: no"),
    ]
    lines = table(rows, 2).splitlines()
    assert "| f | A | 2 | 4 *1 NaN* | 2 |" in lines
    assert "| f | B | ValueError | - |  |" in lines
    assert lines[-1] == "4 numbers from 3 runs of 2 metrics: 1 NaN or infinite, 1 runs failed."


def test_values_of_any_form():
    assert values({20: 0.5, 40: 0.25}) == [0.5, 0.25]
    assert values([[1, 2], [3, 4]]) == [1.0, 2.0, 3.0, 4.0]
    assert values(np.array([True, False])) == [1.0, 0.0]


def test_inside_is_in_the_boxes():
    mask = inside_boxes([torch.tensor([[1.0, 2.0, 4.0, 5.0], [7.0, 7.0, 7.0, 7.0]])], (8, 8))
    assert mask.shape == (1, 1, 8, 8)
    assert mask.sum() == 9 + 1
    assert mask[0, 0, 2:5, 1:4].all()


def test_mosaics_hold_the_image_twice():
    images = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, 4, 4)
    whole, where = mosaics(images)
    assert whole.shape == (min(5, MOSAICS), 3, 8, 8)
    for i, (mosaic, four) in enumerate(zip(whole, where, strict=True)):
        corners = [mosaic[0, y, x].item() for y in (0, 7) for x in (0, 7)]
        assert [corner == i for corner in corners] == [bool(k) for k in four]
        assert four.sum() == 2


def test_every_metric_runs_over_our_maps():
    pytest.importorskip("quantus")
    black_box = TorchBlackBox(small_network(), mean=(0.5,) * 3, std=(0.2,) * 3, size=32)
    g = torch.Generator().manual_seed(0)
    photos = [
        Photo(str(i), torch.rand(1, 3, 32, 32, generator=g), i, torch.tensor([[4.0, 4, 20, 20]]))
        for i in range(4)
    ]
    rows = list(rows_of("grad-cam", black_box, photos, done={"AUC"}))
    assert {r["metric"] for r in rows} == set(metrics(32, 3)) - {"AUC"}
    assert not [r["failure"] for r in rows if r["failure"]]
