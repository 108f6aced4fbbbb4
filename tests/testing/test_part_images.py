import math

import numpy as np
import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.testing.part_images import (
    PARTS,
    SHAPES,
    SURFACES,
    _inside,
    empty_benches,
    machine_parts,
)
from tests.helpers import seeded


def test_names_are_surface_and_shape_and_labels_cycle():
    assert len(set(PARTS)) == len(PARTS) == len(SHAPES) * len(SURFACES) == 12
    images, labels, place = machine_parts(30, generator=seeded())
    assert labels.tolist() == [i % 12 for i in range(30)]
    assert labels.dtype == torch.int64
    assert PARTS[4] == "striped plate"
    assert images.shape == (30, 3, 64, 64)
    assert place.shape == (30, 1, 64, 64)


def test_pixels_are_raw_and_masks_are_binary():
    images, _, place = machine_parts(24, generator=seeded(), size=48)
    assert images.dtype == place.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert set(place.unique().tolist()) == {0.0, 1.0}
    assert place.mean((1, 2, 3)).min() > 0.02
    assert place.mean((1, 2, 3)).max() < 0.3
    for side in (slice(0, 1), slice(-1, None)):  # whole parts, nothing cut off
        assert place[:, :, side, :].sum() == place[:, :, :, side].sum() == 0


def test_everything_comes_from_the_generator():
    state = torch.random.get_rng_state()
    first, again, other = (machine_parts(5, generator=seeded(seed))[0] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)
    longer = machine_parts(9, generator=seeded(3))[0]
    assert torch.equal(longer[:5], first)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_match_a_loop_over_pixels(shape):
    side = 21
    grid = np.linspace(-1.3, 1.3, side)
    slow = np.zeros((side, side), dtype=bool)
    for row, y in enumerate(grid):
        for column, x in enumerate(grid):
            distance = math.hypot(x, y)
            slow[row, column] = {
                "disc": distance < 1,
                "ring": 0.55 < distance < 1,
                "plate": -0.95 < x < 0.95 and -0.6 < y < 0.6,
                "wedge": -0.7 < y < 0.9 - 1.8 * abs(x),
            }[shape]
    axis = torch.from_numpy(grid)
    assert np.array_equal(
        _inside(shape, axis[None, :].expand(side, side), axis[:, None].expand(side, side)).numpy(),
        slow,
    )
    assert 0.1 < slow.mean() < 0.6


def test_surfaces_differ_inside_the_part_only_by_their_texture():
    """Stripes and dots darken a part of the metal; a plain part has its light and its grain."""
    images, labels, place = machine_parts(120, generator=seeded())
    spread = torch.stack(
        [image[:, where[0] > 0].std(1).mean() for image, where in zip(images, place, strict=True)]
    )
    by_surface = [spread[labels % 3 == surface].mean() for surface in range(3)]
    assert by_surface[0] < 0.11 < min(by_surface[1:])


def test_the_background_is_no_evidence_for_the_class():
    """The mean color of what is around the part is the same for all classes, within what chance
    does.
    """
    images, labels, place = machine_parts(480, generator=seeded())
    around = (images * (1 - place)).sum((2, 3)) / (1 - place).sum((2, 3))
    means = torch.stack([around[labels == label].mean(0) for label in range(12)])
    chance = around.std(0) / 40**0.5
    assert ((means - around.mean(0)).abs() < 3.5 * chance).all()


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [(0, 64, "count=0.*>= 1"), (-1, 64, "count=-1.*>= 1"), (3, 31, "size=31.*>= 32")],
)
def test_bad_numbers(count, size, expected):
    with pytest.raises(InputError, match=expected):
        machine_parts(count, generator=seeded(), size=size)


def test_an_empty_bench_looks_like_the_background_of_a_part():
    images, _, place = machine_parts(60, generator=seeded())
    benches = empty_benches(60, generator=seeded(1))
    assert benches.shape == images.shape
    background = images.movedim(1, 3)[place[:, 0] == 0]
    assert abs(float(background.mean() - benches.mean())) < 0.03
    assert abs(float(background.std() - benches.std())) < 0.02
    with pytest.raises(InputError, match=r"empty_benches\(count=0\).*>= 1"):
        empty_benches(0, generator=seeded())
