"""The probe reads what is written and nothing else; the controls have the masks' values."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from saliencykit.sanity.linear_probe import matched, pooled, predictions


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_pooled_cells_are_means():
    masks = torch.rand(2, 1, 12, 12, generator=generator())
    slow = [
        [mask[0, y : y + 3, x : x + 3].mean() for y in range(0, 12, 3) for x in range(0, 12, 3)]
        for mask in masks
    ]
    assert np.allclose(pooled(masks, 4), slow, atol=1e-6)


def test_controls_have_the_same_values_in_smooth_random_order():
    masks = torch.rand(3, 1, 28, 28, generator=generator())
    random = matched(masks, generator=generator(1))
    assert torch.equal(random.flatten(1).sort(1).values, masks.flatten(1).sort(1).values)
    steps = [(m[..., 1:] - m[..., :-1]).abs().mean() for m in (masks, random)]
    assert steps[1] < 0.3 * steps[0]
    again = matched(masks, generator=generator(2))
    assert abs(np.corrcoef(random.flatten(), again.flatten())[0, 1]) < 0.5


def test_only_a_class_that_is_encoded_is_predicted():
    """Smooth random masks; in the first set the class lightens a cell of its own, a little."""
    classes = torch.arange(400) % 4
    masks = F.interpolate(
        torch.rand(400, 1, 5, 5, generator=generator()), size=28, mode="bicubic"
    ).clamp(0, 1)
    written = masks.clone()
    for row, name in enumerate(classes.tolist()):
        written[row, 0, 2:8, 2 + 6 * name : 8 + 6 * name] += 0.5
    read = [
        (predictions(pooled(m.clamp(0, 1), 8), classes) == classes).double().mean().item()
        for m in (written, masks)
    ]
    assert read[0] > 0.9
    assert read[1] == pytest.approx(0.25, abs=0.09)


def test_a_row_is_never_predicted_by_a_probe_trained_on_it():
    """With labels at random and many features, a probe that saw its own rows would be right."""
    features = torch.randn(120, 300, generator=generator())
    classes = torch.randint(0, 3, (120,), generator=generator(1))
    assert (predictions(features, classes) == classes).double().mean() < 0.5


def test_classes_may_be_any_numbers():
    classes = torch.tensor([217, 3] * 30)
    features = torch.where(classes == 217, 1.0, 0.0)[:, None] + 0.1 * torch.randn(
        60, 1, generator=generator()
    )
    assert torch.equal(predictions(features, classes), classes)
