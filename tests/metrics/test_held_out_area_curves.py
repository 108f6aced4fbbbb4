import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.metrics.area_curves import AreaCurves
from saliencykit.metrics.held_out_area_curves import HELD_OUT, HeldOutAreaCurves


def test_it_is_the_mean_of_the_curves_under_both_alternatives(weighing, scores_of, some):
    images, labels, maps = some
    got = scores_of(HeldOutAreaCurves(areas=(0.2, 0.6)), weighing, images, labels, maps)
    each = []
    generator = torch.Generator().manual_seed(0)
    from saliencykit.core.metric import Sample

    for fill in HELD_OUT:
        metric = AreaCurves(alternative=fill, areas=(0.2, 0.6))
        each.append(
            metric.score(weighing, Sample(images, labels), maps, explain=None, generator=generator)
        )
    assert set(got) == {"gap", "kept_0.2", "kept_0.6", "dropped_0.2", "dropped_0.6"}
    for name, values in got.items():
        assert torch.allclose(values, (each[0][name] + each[1][name]) / 2, atol=1e-6)


def test_the_evidence_scores_higher_than_its_complement(black_box, examples, scores_of):
    images, labels = examples
    truth = black_box.evidence(images, labels)
    metric = HeldOutAreaCurves(areas=(0.1, 0.2))
    right, wrong = (
        scores_of(metric, black_box, images, labels, mask)["gap"] for mask in (truth, 1 - truth)
    )
    assert bool((right > wrong + 0.5).all())


def test_wrong_areas_are_refused():
    with pytest.raises(InputError, match="HeldOutAreaCurves"):
        HeldOutAreaCurves(areas=())
