"""Windows around masks, and which boxes are right at which level."""

import torch

from benchmarks.data import Photo
from benchmarks.teachers import LEVELS, hits, masks_of, windows


def test_windows_hold_the_mask_and_grow_to_the_whole_photo():
    masks = torch.zeros(2, 1, 10, 10)
    masks[0, 0, 4:6, 4:6] = masks[1, 0, :, 1:] = 1
    small, large = windows(masks, (100, 100)).tolist()
    assert small == [36, 36, 64, 64]  # the least side, 64 of 224
    assert large == [0, 0, 100, 100]


def test_masks_of_windows_lie_where_the_windows_do():
    bright = torch.zeros(1, 3, 56, 56)
    bright[..., 10:20, 10:20] = 1
    photo = Photo("a", bright, 0, torch.tensor([[10.0, 10.0, 20.0, 20.0]]))
    masks = masks_of(photo, *[lambda image, label: image[:, :1]] * 2)
    assert set(masks) == {"own", "closer", "closest", "excitation", "excitation closer"}
    for mask in masks.values():
        assert (mask.float() - bright[:, :1]).abs().mean() < 0.01
    right = hits(masks["own"].float(), [photo.boxes / 56])
    assert right[0, LEVELS.index(0.5)] == 1
