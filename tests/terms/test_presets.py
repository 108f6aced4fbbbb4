import numpy as np
import pytest
import torch
from hypothesis import given

from saliencykit.core.objective import Objective
from saliencykit.terms.presets import PRESETS
from saliencykit.testing.strategies import trials


def parts(trial, i):
    """Everything that the equations are made of, in numpy, for image i."""
    m = trial.mask[i, 0].numpy()
    tv = np.square(np.diff(m, axis=0)).sum() + np.square(np.diff(m, axis=1)).sum()
    border = sum(np.square(edge).sum() for edge in (m[0], m[-1], m[:, 0], m[:, -1]))
    c, out = int(trial.labels[i]), {"m": m, "tv": tv, "border": border}
    for name, z in (("kept", trial.preserved[i].numpy()), ("dropped", trial.destroyed[i].numpy())):
        out[name] = max(z[c] - np.log(np.exp(z - z.max()).sum()) - z.max(), -20)
        out[f"{name} margin"] = max(np.delete(z, c)) - z[c]
    return out


@given(trials())
def test_each_preset_matches_its_equation(trial):
    slow = {
        "paper": lambda p: (
            10 * p["tv"] + 1e-3 * p["m"].mean() - p["kept"] + 5 * np.exp(p["dropped"]) ** 0.3
        ),
        "paper-mean": lambda p: (
            10 * p["tv"] / p["m"].size
            + 6 * p["m"].mean()
            - p["kept"]
            + 5 * np.exp(p["dropped"]) ** 0.3
        ),
        "authors": lambda p: (
            max(0, 5 - p["dropped margin"])
            + 8 * ((p["m"] + 0.0005) ** 0.3).mean()
            + 0.005 / 2 * (p["tv"] + 0.3 * p["border"])
            + 0.3 * max(0, p["kept margin"] + 1)
        ),
        "meaningful-perturbation": lambda p: (
            0.01 * p["tv"] + 0.001 * 28**2 * p["m"].mean() + np.exp(p["dropped"])
        ),
        "masking-network": lambda p: (
            10 * (p["tv"] + 0.1 * p["border"]) / p["m"].size
            + 10 * p["m"].mean()
            - max(-6, p["kept"])
            + 5 * np.exp(max(-12, p["dropped"])) ** 0.3
        ),
        "sufficient": lambda p: 10 * p["tv"] / p["m"].size + 6 * p["m"].mean() - p["kept"],
        "keep-and-drop": lambda p: -p["kept"] + np.exp(p["dropped"]),
    }
    assert set(slow) == set(PRESETS)
    for name, equation in slow.items():
        objective = PRESETS[name]()
        rows = [
            i for i in range(len(trial.images)) if trial.real[i] or objective.fakes == "inverted"
        ]
        total = objective(trial).total.numpy()
        np.testing.assert_allclose(
            total[rows], [equation(parts(trial, i)) for i in rows], rtol=1e-8, atol=1e-12
        )


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_is_an_objective_that_prints_its_numbers(name):
    objective = PRESETS[name]()
    assert isinstance(objective, Objective)
    assert objective == PRESETS[name]()
    assert "weight=" in repr(objective)


@pytest.mark.parametrize("name", PRESETS)
@given(trial=trials(most=2))
def test_each_preset_has_a_finite_gradient(name, trial):
    from dataclasses import replace

    mask = trial.mask.clone().requires_grad_(True)
    follow = mask.mean((1, 2, 3))[:, None]
    dependent = replace(
        trial,
        mask=mask,
        preserved=trial.preserved * follow,
        destroyed=trial.destroyed * (1 - follow),
    )
    (slope,) = torch.autograd.grad(PRESETS[name]()(dependent).total.sum(), mask)
    assert torch.isfinite(slope).all()
