"""How many edits at once, and the fill they share."""

import pytest
import torch
from torch import Generator

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.crop import Crop
from saliencykit.core.query_batches import micro_batch, shared_fill
from saliencykit.testing.black_boxes import PlantedEvidence


@pytest.mark.parametrize(("limit", "expected"), [(None, 32), (1, 1), (7, 7), (1000, 64)])
def test_the_micro_batch_is_that_of_the_black_box_within_bounds(limit, expected):
    assert micro_batch(PlantedEvidence(max_batch_size=limit)) == expected


def test_alternatives_with_their_own_edit_have_no_shared_fill(examples):
    images, _ = examples
    assert shared_fill(Crop(), images[:1], Generator()) is None
    assert torch.equal(
        shared_fill(Blur(), images[:1], Generator()), Blur()(images[:1], generator=Generator())
    )
