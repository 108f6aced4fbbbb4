import pytest
import torch

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.noise import Noise
from saliencykit.core.errors import InputError
from saliencykit.metrics.area_curves import AreaCurves


@pytest.mark.parametrize(
    "metric", [AreaCurves(), AreaCurves(areas=(0.123, 0.9), alternative=Noise())]
)
def test_it_equals_a_slow_reference(metric, weighing, scores_of, some, chosen):
    images, labels, maps = some
    fills = metric.alternative(images, generator=torch.Generator().manual_seed(0)).numpy()
    got = scores_of(metric, weighing, images, labels, maps)
    assert set(got) == {"gap"} | {
        f"{side}_{area:g}" for side in ("kept", "dropped") for area in metric.areas
    }
    for i in range(4):
        gaps = []
        for area in metric.areas:
            mask = chosen(maps[i, 0].numpy(), round(area * 11 * 14))
            image = images[i].numpy()
            kept = weighing.p(image * mask + fills[i] * (1 - mask), labels[i])
            dropped = weighing.p(image * (1 - mask) + fills[i] * mask, labels[i])
            assert got[f"kept_{area:g}"][i].item() == pytest.approx(kept, abs=1e-9)
            assert got[f"dropped_{area:g}"][i].item() == pytest.approx(dropped, abs=1e-9)
            gaps.append(kept - dropped)
        assert got["gap"][i].item() == pytest.approx(sum(gaps) / len(gaps), abs=1e-9)


def test_a_fill_that_depends_on_the_mask_is_supported(weighing, scores_of, some, chosen):
    """Any alternative object will do: the benchmarks pass fills that nothing was trained with."""
    from benchmarks.held_out import Road

    images, labels, maps = some
    got = scores_of(
        AreaCurves(areas=(0.3,), alternative=Road(std=0.0)), weighing, images, labels, maps
    )
    for i in range(4):
        mask = torch.from_numpy(chosen(maps[i, 0].numpy(), round(0.3 * 11 * 14)))[None, None]
        edit = Road(std=0.0).edit(images[i : i + 1], mask, torch.Generator().manual_seed(0))[0]
        assert got["kept_0.3"][i].item() == pytest.approx(
            weighing.p(edit.numpy(), labels[i]), abs=1e-9
        )


def test_the_evidence_scores_higher_than_its_complement(black_box, examples, scores_of):
    images, labels = examples
    truth = black_box.evidence(images, labels)
    metric = AreaCurves(areas=(0.1, 0.2), alternative=Blur(sigma=3.0))
    right, wrong = (
        scores_of(metric, black_box, images, labels, mask)["gap"] for mask in (truth, 1 - truth)
    )
    assert bool((right > 0.6).all())
    assert bool((wrong < -0.6).all())


def test_only_the_order_of_the_pixels_counts(weighing, scores_of, some):
    images, labels, maps = some
    one, other = (
        scores_of(AreaCurves(), weighing, images, labels, mask)["gap"]
        for mask in (maps, maps**3 * 0.4)
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    "wrong", [{"areas": ()}, {"areas": (0.5, 0.1)}, {"areas": (0.5, 1.0)}, {"alternative": None}]
)
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(InputError, match="AreaCurves"):
        AreaCurves(**wrong)
