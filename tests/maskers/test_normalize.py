"""What the maskers that only ask share."""

import torch

from saliencykit.maskers.normalize import mask_from_attributions, probabilities


def test_the_mask_is_the_positive_part_over_its_maximum_per_row():
    scores = torch.tensor(
        [[-2.0, 0.0, 1.0, 4.0], [-2.0, -1.0, -3.0, 0.0], [0.5, 0.25, 0.0, -9.0]]
    ).view(3, 1, 2, 2)
    mask = mask_from_attributions(scores, torch.zeros(3)).flatten(1)
    assert mask.tolist() == [[0, 0, 0.25, 1], [0, 0, 0, 0], [1, 0.5, 0, 0]]


def test_scores_below_the_floor_are_not_blown_up_to_a_mask():
    scores = torch.tensor([[[[1e-9, 0.0]]]])
    assert mask_from_attributions(scores, torch.tensor([1e-5])).max() < 1e-3
    assert mask_from_attributions(scores, torch.tensor([1e-12])).max() == 1


def test_probabilities_are_the_softmax_of_the_label(black_box, examples):
    images, _ = examples
    label = torch.tensor([2])
    assert torch.allclose(
        probabilities(black_box, images, label), black_box(images).softmax(1)[:, 2]
    )
