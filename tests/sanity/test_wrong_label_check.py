"""Masks of the own class against those of others."""

import numpy as np
import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.registry.coerce import as_masker
from saliencykit.sanity.wrong_label_check import wrong_label
from saliencykit.training.absent_labels import other_labels


def test_a_good_masker_passes_and_constant_masks_fail(maskers, planted):
    black_box, images, labels = planted(24)
    good = wrong_label(black_box, maskers["honest"], images)
    assert good.passed
    assert good.area.mean == pytest.approx(1 / 16)
    assert (good.other_area.mean, good.ratio.mean, good.ratio.high) == (0, 0, 0)
    flat = wrong_label(black_box, maskers["flat"], images, labels)
    assert flat.passed is False
    assert flat.ratio.mean == flat.correlation.mean == 1
    assert wrong_label(black_box, maskers["edges"], images).passed is False
    assert wrong_label(black_box, "whole-image", images).passed is False
    assert "wrong-label: FAIL" in flat.line


def test_estimates_equal_slow_references(planted):
    black_box, images, labels = planted(12)
    masker = as_masker("occlusion")
    found = wrong_label(black_box, masker, images, labels, others=1, seed=3)
    wrong = other_labels(labels, 4, torch.Generator().manual_seed(3))
    mine, theirs = (
        [m.numpy().ravel() for m in masker(black_box, images, y, generator=torch.Generator())]
        for y in (labels, wrong)
    )
    ratios = [b.mean() / a.mean() for a, b in zip(mine, theirs, strict=True)]
    assert np.allclose(found.ratios, ratios, rtol=1e-4)
    assert found.ratio.mean == pytest.approx(np.mean(theirs) / np.mean(mine), rel=1e-4)
    drawn = np.random.default_rng(0).integers(12, size=(4000, 12))
    slow = [np.mean([theirs[i] for i in row]) / np.mean([mine[i] for i in row]) for row in drawn]
    assert found.ratio.low == pytest.approx(np.percentile(slow, 2.5), abs=0.03)
    assert found.ratio.high == pytest.approx(np.percentile(slow, 97.5), abs=0.03)
    steep = [
        np.corrcoef(a, b)[0, 1]
        for a, b in zip(mine, theirs, strict=True)
        if np.ptp(a) and np.ptp(b)
    ]
    known = [
        c
        for c, a, b in zip(found.correlations, mine, theirs, strict=True)
        if np.ptp(a) and np.ptp(b)
    ]
    assert np.allclose(known, steep, atol=1e-4)


def test_empty_masks_fail_and_missing_ones_are_counted(maskers, planted):
    black_box, images, labels = planted(24)
    empty = wrong_label(black_box, maskers["honest"], images, (labels + 1) % 4, others=1)
    assert (empty.ratio.n, empty.passed) == (0, False)
    assert wrong_label(black_box, maskers["flat"], images, labels, seed=1).missing == {}
    halting = wrong_label(black_box, maskers["halting"], images, labels)
    assert halting.missing["RuntimeError: no zeros"] >= 6
    assert 0 < halting.correlation.n < 12
    assert "masks missing" in halting.line


def test_wrong_arguments_are_refused(maskers, planted):
    black_box, images, labels = planted(4)
    with pytest.raises(InputError, match="1 images"):
        wrong_label(black_box, maskers["flat"], images[:1])
    with pytest.raises(InputError, match="others=0"):
        wrong_label(black_box, maskers["flat"], images, others=0)
    with pytest.raises(InputError, match="one per image"):
        wrong_label(black_box, maskers["flat"], images, labels[:2])
