import math

import numpy as np
import pytest
import torch
from saliencykit_superpixel.lime import Lime, kernel
from saliencykit_superpixel.segments import superpixels

from saliencykit import InputError
from saliencykit.alternatives import Constant
from saliencykit.core import probability
from saliencykit.testing import PlantedEvidence

BLACK = Constant(color=0.0)


def test_the_kernel_uses_the_cosine_distance():
    sets = torch.tensor(
        [[1.0, 1, 1, 1], [1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], dtype=torch.float64
    )
    for row, value in zip(sets.numpy(), kernel(sets, 0.25).tolist(), strict=True):
        whole = np.ones(4)
        length = np.linalg.norm(row) * np.linalg.norm(whole)
        distance = 1 - (row @ whole / length if length else 0.0)
        assert math.isclose(value, math.exp(-(distance**2) / 0.25**2), rel_tol=1e-9)


def test_the_size_of_a_set_is_uniform_and_so_are_its_members(white, generator):
    sets = Lime(samples=7000).draw_sets(white[0], 6, generator)
    assert sets.shape == (7001, 6)
    assert torch.equal(sets[0], torch.ones(6, dtype=torch.float64))
    sizes = torch.bincount(sets[1:].sum(1).long(), minlength=7) / 7000
    assert float((sizes - 1 / 7).abs().max()) < 0.02
    threes = sets[1:][sets[1:].sum(1) == 3]
    assert float((threes.mean(0) - 0.5).abs().max()) < 0.06


def test_the_map_of_a_linear_black_box_has_its_weights(stripes, columns, white, generator):
    output = Lime(samples=200, ridge=0.0, alternative=BLACK).attribute(
        stripes, *white, generator=generator
    )
    assert torch.allclose(
        output.attributions[0, 0], torch.tensor(stripes.weights)[columns], atol=1e-4
    )
    shrunk = Lime(samples=200, ridge=5.0, alternative=BLACK).attribute(
        stripes, *white, generator=torch.Generator().manual_seed(0)
    )
    assert 0.1 < float(shrunk.attributions.max()) < 0.35


def test_equals_a_plain_loop_and_the_normal_equations(generator):
    """Equation 2 for a black box that is not linear."""
    black_box = PlantedEvidence(side=6)
    images, labels = black_box.examples(1, generator=generator, size=20)
    masker = Lime(
        samples=60, segments=9, compactness=1.0, width=0.3, ridge=0.7, alternative=Constant()
    )
    output = masker.attribute(black_box, images, labels, generator=torch.Generator().manual_seed(3))

    numbers = superpixels(images, 9, 1.0)
    count = int(numbers.max()) + 1
    from saliencykit.core import rng

    seed = rng.fork(rng.fork(torch.Generator().manual_seed(3))).initial_seed()
    sets = masker.draw_sets(images, count, torch.Generator().manual_seed(seed)).numpy()
    rows, probabilities, weights = [], [], []
    for z in sets:
        edit = torch.full_like(images, 0.5)
        for j in range(count):
            if z[j]:
                edit[:, :, numbers == j] = images[:, :, numbers == j]
        probabilities.append(float(probability(black_box(edit), labels, "softmax")))
        distance = 1 - math.sqrt(z.sum() / count)
        weights.append(math.exp(-(distance**2) / 0.3**2))
        rows.append([1.0, *z])
    design, probabilities, weights = np.array(rows), np.array(probabilities), np.array(weights)
    penalty = np.diag([0.0] + [0.7] * count)
    slopes = np.linalg.solve(
        design.T * weights @ design + penalty, design.T * weights @ probabilities
    )[1:]
    assert np.allclose(output.attributions[0, 0].numpy(), slopes[numbers.numpy()], atol=1e-5)
    positive = np.clip(slopes, 0, None)[numbers.numpy()]
    assert np.allclose(output.mask[0, 0].numpy(), positive / positive.max(), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples": 0}, "samples must be an integer >= 1"),
        ({"width": 0.0}, "width must be > 0 and ridge >= 0"),
        ({"ridge": -1.0}, "width must be > 0 and ridge >= 0"),
    ],
)
def test_bad_numbers_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        Lime(**options)
