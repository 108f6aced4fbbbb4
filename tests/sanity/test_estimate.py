"""Means, verdicts from their bounds, and JSON."""

import json

import numpy as np
import pytest
import torch

from saliencykit.sanity.estimate import Estimate, as_json


def test_missing_values_are_not_counted():
    values = torch.tensor([0.2, float("nan"), 0.4, 0.9])
    estimate = Estimate.of(values)
    assert estimate.n == 3
    assert estimate.mean == pytest.approx(np.mean([0.2, 0.4, 0.9]))
    assert estimate.low < estimate.mean < estimate.high
    assert Estimate.of([]).n == 0
    assert str(Estimate(0.5, 0.25, 0.75, 9)) == "0.50 [0.25, 0.75]"


def test_is_below_needs_the_whole_interval():
    assert Estimate(0.2, 0.1, 0.3, 9).is_below(0.5) is True
    assert Estimate(0.6, 0.5, 0.7, 9).is_below(0.5) is False
    assert Estimate(0.4, 0.3, 0.6, 9).is_below(0.5) is None
    assert Estimate.of([0.1]).is_below(0.5) is None, "one image says nothing"


def test_results_are_json_types():
    found = as_json({"a": (Estimate.of([]), float("inf")), "b": True})
    assert json.loads(json.dumps(found)) == {
        "a": [{"mean": None, "low": None, "high": None, "n": 0}, None],
        "b": True,
    }
