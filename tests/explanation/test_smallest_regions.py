"""How much of an image is enough, and how much must go."""

import math
import pickle

import numpy as np
import pytest
import torch

from saliencykit import (
    Explanation,
    explain,
    smallest_destroying_region,
    smallest_sufficient_region,
)
from saliencykit.black_boxes import FunctionBlackBox
from saliencykit.core.errors import InputError, ReliabilityWarning
from saliencykit.testing import PlantedEvidence
from tests.helpers import seeded

BLACK_BOX = PlantedEvidence()
IMAGES, LABELS = BLACK_BOX.examples(3, generator=seeded())
OPTIONS = {"masker": "rise:samples=150", "alternative": "noise"}


def share_of_white(images):
    """(B, 2) probabilities: the first class's is the share of white pixels."""
    share = images.mean((1, 2, 3)) * 0.98 + 0.01
    return np.stack([share, 1 - share], 1)


@pytest.mark.parametrize(("limit", "wanted"), [(0.5, 0.5), (0.9, 0.9), (0.25, 0.25)])
def test_the_area_is_where_the_probability_crosses_the_limit(limit, wanted):
    black_box = FunctionBlackBox(share_of_white, size=16)
    white = torch.ones(2, 3, 16, 16)
    options = {"masker": "center-box", "alternative": "constant:color=zero", "inputs": "raw"}
    enough = smallest_sufficient_region(black_box, white, 0, keep=limit, **options)
    gone = smallest_destroying_region(black_box, white, 0, leave=limit, **options)
    assert enough.area.tolist() == pytest.approx([wanted] * 2, abs=0.02)
    assert gone.area.tolist() == pytest.approx([1 - wanted] * 2, abs=0.02)
    assert bool((enough.probability >= limit * 0.99 - 1e-5).all())
    assert bool((gone.probability <= limit * 0.99 + 1e-5).all())
    assert torch.allclose(enough.mask.float().mean((1, 2, 3)), enough.area)
    assert enough.queries == gone.queries == 10


def test_the_regions_are_the_best_pixels_and_what_the_model_says_of_them_is_right():
    explanation = explain(BLACK_BOX, IMAGES, LABELS, sufficient=True, destroying=0.5, **OPTIONS)
    enough = explanation.sufficient
    assert bool(enough.found.all())
    assert bool((enough.area < 0.5).all())
    assert bool((enough.probability >= 0.9 * explanation.probability - 1e-6).all())
    for row in range(3):
        x0, y0, x1, y1 = map(int, enough.boxes[row].tolist())
        assert enough.mask[row, 0, y0:y1, x0:x1].sum() == enough.mask[row].sum()
        best = explanation.mask[row][enough.mask[row]].min()
        assert best >= explanation.mask[row][~enough.mask[row]].max()
    assert "of the pixels are enough for" in explanation.caption()
    assert "removing " in explanation.panels()


def test_a_region_is_the_same_alone_and_in_a_batch():
    together = smallest_sufficient_region(BLACK_BOX, IMAGES, LABELS, **OPTIONS)
    alone = smallest_sufficient_region(BLACK_BOX, IMAGES[1:2], LABELS[1:2], **OPTIONS)
    assert torch.equal(together.mask[1:2], alone.mask)


def test_a_crop_is_a_rectangle():
    regions = smallest_sufficient_region(BLACK_BOX, IMAGES, LABELS, form="crop", **OPTIONS)
    width, height = (regions.boxes[:, 2:] - regions.boxes[:, :2]).unbind(1)
    assert torch.allclose(width * height / IMAGES[0, 0].numel(), regions.area)
    assert bool((regions.area <= 1).all())


def test_where_the_class_stays_without_any_pixel_it_is_said():
    black_box = FunctionBlackBox(lambda images: share_of_white(images * 0 + 0.7), size=16)
    options = {"masker": "center-box", "inputs": "raw"}
    with pytest.warns(ReliabilityWarning, match="stays with all pixels replaced"):
        gone = smallest_destroying_region(black_box, IMAGES, 0, **options)
    assert bool(gone.area.isnan().all() and gone.boxes.isnan().all())
    assert not bool(gone.found.any() or gone.mask.any())
    assert gone.numbers(0)["area"] is None
    with pytest.warns(ReliabilityWarning, match="stays with all pixels replaced"):
        enough = smallest_sufficient_region(black_box, IMAGES, 0, **options)
    assert enough.area.tolist() == [0, 0, 0]
    assert "nothing is needed" in enough.words(0, "sufficient", "softmax")


@pytest.mark.filterwarnings("ignore::saliencykit.core.errors.ReliabilityWarning")
@pytest.mark.parametrize("output", ["sigmoid", "score"])
def test_labels_of_their_own_and_scores_have_regions_too(output):
    def answer(images):
        score = 30 - 20 * images.mean((1, 2, 3))
        return np.stack([score, 0 * score], 1)

    black_box = FunctionBlackBox(answer, size=16, output=output, probabilities=False)
    options = {"masker": "center-box", "alternative": "constant:color=1.0", "inputs": "raw"}
    black = torch.zeros(1, 3, 16, 16)
    regions = smallest_sufficient_region(black_box, black, 0, **options)
    if output == "sigmoid":  # p is 1 wherever it is computed
        assert regions.area.item() == 0
        return
    # 0.9 of the way from the replaced image, 10, to the whole one, 30
    assert math.isclose(regions.area.item(), 0.9, abs_tol=0.01)
    assert math.isclose(regions.probability.item(), 28, abs_tol=0.2)
    assert regions.queries == 12
    gone = smallest_destroying_region(black_box, black, 0, **options)
    assert math.isclose(gone.area.item(), 0.9, abs_tol=0.01)
    assert math.isclose(gone.probability.item(), 12, abs_tol=0.2)


@pytest.mark.filterwarnings("ignore::saliencykit.core.errors.ReliabilityWarning")
def test_regions_of_several_labels_are_saved_and_loaded(tmp_path):
    options = {"sufficient": True, "destroying": True, "region_form": "crop", **OPTIONS}
    explanation = explain(BLACK_BOX, IMAGES[:2], [[0, 1]], **options)
    assert len(explanation.sufficient.area) == len(explanation) == 4
    again = Explanation.load(explanation.save(tmp_path))
    for kind in ("sufficient", "destroying"):
        one, other = getattr(explanation, kind), getattr(again, kind)
        assert torch.equal(one.mask, other.mask)
        assert one.numbers(1) == other.numbers(1)
    assert pickle.loads(pickle.dumps(explanation)).caption() == again.caption()
    assert explain(BLACK_BOX, IMAGES[:1], masker="center-box").sufficient is None


@pytest.mark.parametrize("wrong", [{"sufficient": 1.5}, {"destroying": 0}, {"region_form": "box"}])
def test_wrong_arguments_of_a_search_are_refused(wrong):
    with pytest.raises(InputError, match=r"\(0, 1\)|'mask' or 'crop'"):
        explain(BLACK_BOX, IMAGES, masker="center-box", **{"sufficient": True} | wrong)
