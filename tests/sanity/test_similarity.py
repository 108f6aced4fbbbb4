"""Likeness of masks against numpy, and where a correlation is not defined."""

import numpy as np
import pytest
import torch

from saliencykit.sanity.similarity import overlap, similarity


def masks(seed, n=4):
    return torch.rand(n, 1, 10, 10, generator=torch.Generator().manual_seed(seed))


def test_similarity_equals_the_correlation():
    one, other = masks(0), masks(1)
    slow = [np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(one, other, strict=True)]
    assert similarity(one, other).numpy() == pytest.approx(np.array(slow), abs=1e-5)


def test_constant_masks_are_similar_to_each_other_only():
    flat = torch.full((4, 1, 10, 10), 0.3)
    assert similarity(flat, 0 * flat).tolist() == [1.0] * 4
    assert similarity(flat, masks(0)).tolist() == [0.0] * 4


def test_overlap_is_the_intersection_over_union_of_the_best_pixels():
    one, other = masks(0), masks(1)
    slow = []
    for a, b in zip(one, other, strict=True):
        tops = [set(np.argsort(-m.flatten().numpy())[:20].tolist()) for m in (a, b)]
        slow.append(len(tops[0] & tops[1]) / len(tops[0] | tops[1]))
    assert overlap(one, other).tolist() == pytest.approx(slow)
    assert overlap(one, one).tolist() == [1.0] * 4


def test_masks_with_nan_have_similarity_nan():
    one = masks(0)
    one[1] = float("nan")
    for measure in (similarity, overlap):
        assert measure(one, masks(0)).isnan().tolist() == [False, True, False, False]
