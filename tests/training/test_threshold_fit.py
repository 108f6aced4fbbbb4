import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.core.metric import Sample
from saliencykit.maskers.realtime.box_threshold import LEVELS, BoxThreshold, level_boxes
from saliencykit.metrics import boxes_at
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.training.threshold_fit import fit_threshold, learn_threshold


def cones(peaks, slopes):
    """Masks that fall off from the middle, (N, 1, 32, 32)."""
    y = (torch.arange(32.0) - 15.5).abs()
    away = torch.maximum(y[:, None], y[None, :])[None, None]
    shape = (len(peaks), 1, 1, 1)
    return (peaks.view(shape) - slopes.view(shape) * away).clamp(0, 1)


def boxes_at_levels(masks, levels):
    return [level_boxes(m[None])[:, LEVELS.index(v)] for m, v in zip(masks, levels, strict=True)]


def test_the_boxes_of_all_levels_are_those_of_each():
    masks = torch.rand(3, 1, 8, 10, generator=torch.Generator().manual_seed(0))
    expected = boxes_at(masks, "value", LEVELS, "all") / torch.tensor([10, 8, 10, 8])
    assert torch.allclose(level_boxes(masks), expected)


def test_untrained_it_is_half_for_every_mask():
    assert BoxThreshold()(torch.rand(4, 1, 8, 8)).tolist() == [0.5] * 4


def test_it_learns_that_flat_masks_are_cut_high_and_steep_ones_low():
    generator = torch.Generator().manual_seed(0)
    flat = torch.rand(120, generator=generator) < 0.5
    masks = cones(torch.ones(120), torch.where(flat, 0.03, 0.09))
    boxes = boxes_at_levels(masks, [0.85 if f else 0.15 for f in flat])
    threshold, report = fit_threshold(masks, boxes)
    assert report.used == "chosen"
    assert report.rows == 120
    assert report.chosen < 0.1 < report.fixed
    chosen = threshold(masks)
    assert chosen[flat].mean() > 0.7
    assert chosen[~flat].mean() < 0.3


def test_where_one_threshold_does_as_well_it_is_used():
    masks = cones(torch.ones(60), torch.linspace(0.03, 0.09, 60))
    threshold, report = fit_threshold(masks, boxes_at_levels(masks, [0.8] * 60))
    assert report.used == "fixed"
    assert threshold(masks).unique().numel() == 1
    assert threshold(masks)[0] > 0.6
    assert fit_threshold(masks, boxes_at_levels(masks, [0.5] * 60))[1].used == "half"


def test_too_few_boxes_are_refused(trunk_black_box):
    from saliencykit.maskers.realtime.masking_network import masking_network

    images, labels = PlantedEvidence().examples(4, generator=torch.Generator(), size=32)
    black_box = trunk_black_box()
    network = masking_network(black_box, images, labels)
    box = (torch.tensor([[1.0, 1.0, 9.0, 9.0]]),)
    data = [Sample(images[:1], labels[:1], box, ("one",))]
    with pytest.raises(InputError, match=r"fit\(boxes=...\): 1 images have bounding boxes"):
        learn_threshold(network, black_box, data)
    data = [Sample(images[:1], labels[:1], box, (f"{n}",)) for n in range(24)]
    assert learn_threshold(network, black_box, data).rows == 24
    assert isinstance(network.box_threshold, BoxThreshold)
