import math

import numpy as np
import pytest
import torch

from saliencykit.metrics.complexity import Complexity


def test_it_equals_a_slow_reference(weighing, scores_of, some):
    got = scores_of(Complexity(), weighing, *some)["Complexity"]
    for i in range(4):
        shares = some[2][i].flatten().tolist()
        total = sum(shares)
        expected = -sum(v / total * math.log(v / total) for v in shares if v > 0)
        assert got[i].item() == pytest.approx(expected, abs=1e-9)
    assert weighing.batch_sizes == []


def test_a_single_pixel_and_an_empty_map_have_the_extreme_values(weighing, scores_of, some):
    maps = torch.zeros_like(some[2])
    maps[0, 0, 3, 4] = 0.2
    got = scores_of(Complexity(), weighing, some[0], some[1], maps)["Complexity"]
    assert got[0].item() == 0
    assert bool(got[1:].isnan().all())


def test_it_equals_quantus(weighing, scores_of, some):
    quantus = pytest.importorskip("quantus")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 11 * 14, 3))
    theirs = quantus.Complexity(disable_warnings=True, normalize=False, abs=False)(
        model=model,
        x_batch=some[0].float().numpy(),
        y_batch=some[1].numpy(),
        a_batch=some[2].numpy(),
    )
    assert np.allclose(
        scores_of(Complexity(), weighing, *some)["Complexity"].numpy(), theirs, atol=1e-6
    )
