import pytest
import torch
from saliencykit_superpixel.superpixel_rise import SuperpixelRise

from saliencykit import InputError
from saliencykit.alternatives import Constant
from saliencykit.testing import PlantedEvidence, QueryOnly, iou


@pytest.mark.parametrize("keep", [0.5, 0.3])
def test_the_map_of_a_linear_black_box_has_its_weights(keep, stripes, columns, white, generator):
    """`Cov(y, z_j) / keep_prob` is `(1 - keep_prob)` times the weight of the column."""
    output = SuperpixelRise(samples=200, keep_prob=keep).attribute(
        stripes, *white, generator=generator
    )
    wanted = (1 - keep) * torch.tensor(stripes.weights)[columns]
    assert torch.allclose(output.attributions[0, 0], wanted, atol=1e-4)
    assert torch.allclose(output.mask[0, 0], wanted.clamp_min(0) / wanted.max(), atol=1e-3)
    assert float(output.standard_error.max()) < 1e-3


def test_attributions_equal_the_sample_covariance_of_many_sets(stripes, columns, white, generator):
    masker = SuperpixelRise(samples=4000, keep_prob=0.4)
    sets = masker.draw_sets(white[0], 4, generator)
    probabilities = (
        torch.rand(4000, generator=generator, dtype=torch.float64) * 0.1
        + sets @ torch.tensor(stripes.weights).double()
    )
    scores, errors = masker.fit(sets, probabilities)
    plain = ((sets - 0.4) * (probabilities - probabilities.mean())[:, None]).mean(0) / 0.4
    assert torch.allclose(scores, plain, atol=0.02)
    assert bool(((scores - 0.6 * torch.tensor(stripes.weights)).abs() < 4 * errors).all())


def test_sets_are_antithetic_pairs_that_keep_keep_prob(white, generator):
    sets = SuperpixelRise(samples=201).draw_sets(white[0], 30, generator)
    assert sets.shape == (201, 30)
    assert torch.equal(sets[0:200:2] + sets[1:200:2], torch.ones(100, 30, dtype=torch.float64))
    few = SuperpixelRise(samples=2000, keep_prob=0.2).draw_sets(white[0], 30, generator)
    assert abs(float(few.mean()) - 0.2) < 0.01


def test_finds_planted_evidence_by_queries_only(generator):
    black_box = PlantedEvidence(side=6)
    images, labels = black_box.examples(4, generator=generator, size=24)
    mask = SuperpixelRise(samples=400, segments=36, compactness=100.0, alternative=Constant())(
        QueryOnly(black_box), images, labels, generator=generator
    )
    assert float(iou(mask, black_box.evidence(images, labels)).mean()) > 0.4
    inside = (mask * black_box.evidence(images, labels)).sum((1, 2, 3)) / mask.sum((1, 2, 3))
    assert float(inside.min()) > 0.4  # a patch has 6 % of the image


@pytest.mark.parametrize(
    "options", [{"samples": 1}, {"samples": 2.5}, {"keep_prob": 0.0}, {"keep_prob": 1.0}]
)
def test_bad_numbers_are_refused(options):
    with pytest.raises(InputError, match="samples must be"):
        SuperpixelRise(**options)
