"""Many masks in batches; what fails is counted."""

import pytest
import torch

from saliencykit.core.errors import GradientError, InputError
from saliencykit.sanity.masks import masks_of, own_answers
from saliencykit.testing.black_boxes import QueryOnly


def test_batches_do_not_matter(maskers, planted):
    black_box, images, labels = planted(7)
    told = []
    small = masks_of(
        maskers["honest"],
        black_box,
        images,
        labels,
        batch_size=2,
        what="m",
        on_progress=lambda *args: told.append(args),
    )
    whole = masks_of(maskers["honest"], black_box, images, labels, batch_size=50)
    assert torch.equal(small.values, whole.values)
    assert small.known.all()
    assert told == [("m", 2, 7), ("m", 4, 7), ("m", 6, 7), ("m", 7, 7)]


def test_one_picture_that_fails_costs_no_other(maskers, planted):
    black_box, images, labels = planted(8)
    masks = masks_of(maskers["halting"], black_box, images, labels, batch_size=3)
    assert masks.known.tolist() == (labels > 1).tolist()
    assert torch.equal(masks.values[labels > 1], black_box.evidence(images, labels)[labels > 1])
    assert masks.reasons["RuntimeError: no zeros"] == 2
    assert [count for why, count in masks.reasons.items() if "NaN" in why] == [2]


def test_no_mask_at_all_is_said(maskers, planted):
    black_box, images, labels = planted(4)
    with pytest.raises(
        InputError, match="no mask of any of the 4 pictures: RuntimeError: no zeros"
    ):
        masks_of(maskers["halting"], black_box, images, 0 * labels)
    from saliencykit.registry.coerce import as_masker

    with pytest.raises(GradientError):
        masks_of(as_masker("gradient"), QueryOnly(black_box), images, labels)


def test_own_answers(planted):
    black_box, images, labels = planted(9)
    assert torch.equal(own_answers(black_box, images, batch_size=2), labels)
