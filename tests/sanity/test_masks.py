"""Many masks in batches; what fails is counted."""

from dataclasses import replace

import pytest
import torch

from saliencykit.core.errors import GradientError, InputError
from saliencykit.sanity.masks import CheckedMasker, predicted_labels
from saliencykit.testing.black_boxes import QueryOnly


def test_masks_do_not_depend_on_the_batch_size(maskers, planted):
    black_box, images, labels = planted(7)
    told = []
    checked = CheckedMasker(
        black_box,
        maskers["honest"],
        images,
        labels,
        batch_size=2,
        on_stage=lambda *args: told.append(args),
    )
    small = checked.masks(labels, "m")
    whole = replace(checked, batch_size=50, on_stage=None).masks(labels, "m")
    assert torch.equal(small.values, whole.values)
    assert small.known.all()
    assert told == [("m", 2, 7), ("m", 4, 7), ("m", 6, 7), ("m", 7, 7)]


def test_one_failing_image_does_not_affect_the_others(maskers, planted):
    black_box, images, labels = planted(8)
    masks = CheckedMasker(black_box, maskers["halting"], images, labels, batch_size=3).masks(
        labels, "m"
    )
    assert masks.known.tolist() == (labels > 1).tolist()
    assert torch.equal(masks.values[labels > 1], black_box.evidence(images, labels)[labels > 1])
    assert masks.failures["RuntimeError: no zeros"] == 2
    assert [count for why, count in masks.failures.items() if "NaN" in why] == [2]


def test_no_mask_at_all_is_an_error(maskers, planted):
    black_box, images, labels = planted(4)
    with pytest.raises(InputError, match="no mask of any of the 4 images: RuntimeError: no zeros"):
        CheckedMasker(black_box, maskers["halting"], images, labels).masks(0 * labels, "m")
    from saliencykit.registry.coerce import as_masker

    with pytest.raises(GradientError):
        CheckedMasker(QueryOnly(black_box), as_masker("gradient"), images, labels).masks(
            labels, "m"
        )


def test_labels_are_predicted_in_batches(planted):
    black_box, images, labels = planted(9)
    assert torch.equal(predicted_labels(black_box, images, batch_size=2), labels)
