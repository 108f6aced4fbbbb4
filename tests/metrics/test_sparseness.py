import numpy as np
import pytest
import torch

from saliencykit.metrics.sparseness import Sparseness


def test_it_equals_a_slow_reference(weighing, scores_of, some):
    """The Gini index is half the mean difference of all pairs, over the mean."""
    got = scores_of(Sparseness(), weighing, *some)["Sparseness"]
    for i in range(4):
        values = some[2][i].flatten().numpy()
        expected = np.abs(values[:, None] - values[None]).mean() / 2 / values.mean()
        assert got[i].item() == pytest.approx(expected, abs=1e-9)
    assert weighing.batch_sizes == []


def test_a_single_pixel_and_an_empty_map_have_the_extreme_values(weighing, scores_of, some):
    maps = torch.zeros_like(some[2])
    maps[0, 0, 3, 4] = 0.2
    got = scores_of(Sparseness(), weighing, some[0], some[1], maps)["Sparseness"]
    assert got[0].item() == pytest.approx(1 - 1 / 154)
    assert bool(got[1:].isnan().all())


def test_it_equals_quantus(weighing, scores_of, some):
    quantus = pytest.importorskip("quantus")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 11 * 14, 3))
    theirs = quantus.Sparseness(disable_warnings=True, normalize=False, abs=False)(
        model=model,
        x_batch=some[0].float().numpy(),
        y_batch=some[1].numpy(),
        a_batch=some[2].numpy().copy(),
    )
    # they add 1e-7
    assert np.allclose(
        scores_of(Sparseness(), weighing, *some)["Sparseness"].numpy(), theirs, atol=1e-5
    )
