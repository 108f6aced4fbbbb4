"""Several classes of an image, and several regions of a class."""

import pytest
import torch

from saliencykit import explain
from saliencykit.core.errors import InputError
from saliencykit.maskers import masking_network
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.testing import Counting, PlantedEvidence
from tests.helpers import seeded

BLACK_BOX = PlantedEvidence()
RISE = "rise:samples=400"


def two_patches():
    """One image with the patch of class 0 on the left and again on the right."""
    image = torch.full((3, 16, 32), 0.5)
    patch = 0.5 + 0.4 * BLACK_BOX.patches(image)[0]
    image[:, 4:8, 4:8] = patch
    image[:, 8:12, 24:28] = patch
    return image


@pytest.mark.parametrize("masker", [RISE, "gradient", "iterative:steps=10"])
def test_regions_do_not_overlap(masker):
    answer = explain(BLACK_BOX, two_patches(), 0, masker=masker, regions=3)
    assert answer.labels.tolist() == [0, 0, 0]
    assert repr(answer).startswith("Explanation of 3 masks of 1 image(s) by ")
    assert float(answer.mask.sum(0).max()) <= 1 + 1e-5


def test_the_second_region_is_the_second_sufficient_one():
    answer = explain(BLACK_BOX, two_patches(), 0, regions=2)
    brightest = [int(mask.flatten().argmax()) % 32 for mask in answer.mask]
    assert sorted(column // 16 for column in brightest) == [0, 1]  # one on each side
    assert bool((answer.kept > 0.5 * answer.probability).all())


def test_the_first_region_is_the_mask_without_regions():
    one = explain(BLACK_BOX, two_patches(), 0, masker=RISE)
    three = explain(BLACK_BOX, two_patches(), 0, masker=RISE, regions=3)
    assert torch.equal(one.mask, three.mask[:1])
    assert torch.equal(one.preserved, three.preserved[:1])


def test_several_classes_of_each_image_are_rows_in_order():
    images, _ = BLACK_BOX.examples(2, generator=seeded())
    answer = explain(BLACK_BOX, images, [[3, 0], [1]], masker=RISE)
    assert answer.labels.tolist() == [3, 0, 1]
    assert answer.provenance["sources"] == ["image 0", "image 0", "image 1"]
    for row, (image, label) in enumerate([(0, 3), (0, 0), (1, 1)]):
        alone = explain(BLACK_BOX, images[image], label, masker=RISE)
        assert torch.equal(alone.mask[0], answer.mask[row])
        assert torch.equal(alone.logits[0], answer.logits[row])


def test_one_list_serves_all_images_and_none_is_the_top_class():
    images, labels = BLACK_BOX.examples(2, generator=seeded())
    answer = explain(BLACK_BOX, images, [[None, "red-green checks"]], masker="gradient")
    assert answer.labels.tolist() == [int(labels[0]), 0, int(labels[1]), 0]


def test_a_one_pass_masker_predicts_once_for_all_classes():
    images, _ = BLACK_BOX.examples(2, generator=seeded())
    counting = Counting(BLACK_BOX)
    masker = RealTimeMasker(masking_network(BLACK_BOX, images, encoder="own"))
    explain(counting, images, [[0, 1, 2]], masker=masker, inputs="raw", verify=False)
    assert counting.num_images == 2


@pytest.mark.parametrize(
    ("label", "regions", "says"),
    [
        ([[]], 1, "an image without labels"),
        ([[0], [1], [2]], 1, "3 labels for 1 images"),
        ([0, 1], 1, r"label=\[\[0, 1\]\] for several classes of one image"),
        (0, 0, r"explain\(regions=0\) takes a whole number >= 1"),
        (0, 1.5, r"explain\(regions=1.5\)"),
    ],
)
def test_labels_and_regions_that_make_no_sense_are_refused(label, regions, says):
    with pytest.raises(InputError, match=says):
        explain(BLACK_BOX, two_patches(), label, masker="gradient", regions=regions)
