import torch

from saliencykit.maskers.normalize import mask_from_attributions


def test_the_mask_is_the_positive_part_over_its_maximum_per_row():
    attributions = torch.tensor(
        [[-2.0, 0.0, 1.0, 4.0], [-2.0, -1.0, -3.0, 0.0], [0.5, 0.25, 0.0, -9.0]]
    ).view(3, 1, 2, 2)
    mask = mask_from_attributions(attributions, torch.zeros(3)).flatten(1)
    assert mask.tolist() == [[0, 0, 0.25, 1], [0, 0, 0, 0], [1, 0.5, 0, 0]]


def test_attributions_below_the_noise_floor_are_not_scaled_up():
    attributions = torch.tensor([[[[1e-9, 0.0]]]])
    assert mask_from_attributions(attributions, torch.tensor([1e-5])).max() < 1e-3
    assert mask_from_attributions(attributions, torch.tensor([1e-12])).max() == 1
