"""Means, verdicts from their bounds, and JSON."""

import json

import numpy as np
import pytest
import torch

from saliencykit.sanity.intervals import Figure, as_facts, is_below, word


def test_what_is_missing_is_not_counted():
    values = torch.tensor([0.2, float("nan"), 0.4, 0.9])
    figure = Figure.of(values)
    assert figure.n == 3
    assert figure.mean == pytest.approx(np.mean([0.2, 0.4, 0.9]))
    assert figure.low < figure.mean < figure.high
    assert Figure.of([]).n == 0
    assert str(Figure(0.5, 0.25, 0.75, 9)) == "0.50 [0.25, 0.75]"


def test_a_bound_is_passed_by_the_whole_interval():
    assert is_below(Figure(0.2, 0.1, 0.3, 9), 0.5) is True
    assert is_below(Figure(0.6, 0.5, 0.7, 9), 0.5) is False
    assert is_below(Figure(0.4, 0.3, 0.6, 9), 0.5) is None
    assert is_below(Figure.of([0.1]), 0.5) is None, "one picture says nothing"
    assert [word(v) for v in (True, False, None)] == ["pass", "FAIL", "unclear"]


def test_facts_are_json():
    found = as_facts({"a": (Figure.of([]), float("inf")), "b": True})
    assert json.loads(json.dumps(found)) == {
        "a": [{"mean": None, "low": None, "high": None, "n": 0}, None],
        "b": True,
    }
