import numpy as np
import pytest
import torch

from saliencykit.metrics.sparseness import Sparseness


def test_against_a_slow_twin(weighing, judged, some):
    """The Gini index is half the mean difference of all pairs, over the mean."""
    got = judged(Sparseness(), weighing, *some)["Sparseness"]
    for i in range(4):
        values = some[2][i].flatten().numpy()
        twin = np.abs(values[:, None] - values[None]).mean() / 2 / values.mean()
        assert got[i].item() == pytest.approx(twin, abs=1e-9)
    assert weighing.batch_sizes == []


def test_one_pixel_and_none(weighing, judged, some):
    maps = torch.zeros_like(some[2])
    maps[0, 0, 3, 4] = 0.2
    got = judged(Sparseness(), weighing, some[0], some[1], maps)["Sparseness"]
    assert got[0].item() == pytest.approx(1 - 1 / 154)
    assert bool(got[1:].isnan().all())


def test_against_quantus(weighing, judged, some):
    quantus = pytest.importorskip("quantus")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 11 * 14, 3))
    theirs = quantus.Sparseness(disable_warnings=True, normalise=False, abs=False)(
        model=model,
        x_batch=some[0].float().numpy(),
        y_batch=some[1].numpy(),
        a_batch=some[2].numpy().copy(),
    )
    # they add 1e-7
    assert np.allclose(
        judged(Sparseness(), weighing, *some)["Sparseness"].numpy(), theirs, atol=1e-5
    )
