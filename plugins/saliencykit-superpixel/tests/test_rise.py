import pytest
import torch
from saliencykit_superpixel.rise import SuperpixelRise

from saliencykit import InputError
from saliencykit.alternatives.constant import Constant
from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly, iou


@pytest.mark.parametrize("keep", [0.5, 0.3])
def test_a_linear_box_gets_its_weights(keep, stripes, columns, white, generator):
    """The covariance of the answer with a column, over `keep`, is `(1 - keep)` times the column's
    weight.
    """
    found = SuperpixelRise(samples=200, keep_prob=keep).attribute(
        stripes, *white, generator=generator
    )
    wanted = (1 - keep) * torch.tensor(stripes.weights)[columns]
    assert torch.allclose(found.attributions[0, 0], wanted, atol=1e-4)
    assert torch.allclose(found.mask[0, 0], wanted.clamp_min(0) / wanted.max(), atol=1e-3)
    assert float(found.standard_error.max()) < 1e-3


def test_it_is_the_covariance_of_plain_rise(stripes, columns, white, generator):
    """Against the sample covariance of many sets: equal but for chance."""
    masker = SuperpixelRise(samples=4000, keep_prob=0.4)
    sets = masker.sets(white[0], 4, generator)
    answers = (
        torch.rand(4000, generator=generator, dtype=torch.float64) * 0.1
        + sets @ torch.tensor(stripes.weights).double()
    )
    scores, errors = masker.solve(sets, answers)
    plain = ((sets - 0.4) * (answers - answers.mean())[:, None]).mean(0) / 0.4
    assert torch.allclose(scores, plain, atol=0.02)
    assert bool(((scores - 0.6 * torch.tensor(stripes.weights)).abs() < 4 * errors).all())


def test_sets_come_in_opposite_pairs_of_the_right_size(white, generator):
    sets = SuperpixelRise(samples=201).sets(white[0], 30, generator)
    assert sets.shape == (201, 30)
    assert torch.equal(sets[0:200:2] + sets[1:200:2], torch.ones(100, 30, dtype=torch.float64))
    few = SuperpixelRise(samples=2000, keep_prob=0.2).sets(white[0], 30, generator)
    assert abs(float(few.mean()) - 0.2) < 0.01


def test_it_finds_planted_evidence_by_asking_alone(generator):
    black_box = PlantedEvidence(side=6)
    images, labels = black_box.examples(4, generator=generator, size=24)
    mask = SuperpixelRise(samples=400, segments=36, compactness=100.0, alternative=Constant())(
        QueryOnly(black_box), images, labels, generator=generator
    )
    assert float(iou(mask, black_box.evidence(images, labels)).mean()) > 0.4
    inside = (mask * black_box.evidence(images, labels)).sum((1, 2, 3)) / mask.sum((1, 2, 3))
    assert float(inside.min()) > 0.4  # a patch has 6 % of the picture


@pytest.mark.parametrize(
    "options", [{"samples": 1}, {"samples": 2.5}, {"keep": 0.0}, {"keep": 1.0}]
)
def test_bad_numbers(options):
    with pytest.raises(InputError, match=r"samples is a whole number >= 2 and keep is in \(0, 1\)"):
        SuperpixelRise(**options)
