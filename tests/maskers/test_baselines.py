import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.maskers.baselines import CenterBox, GroundTruthBox, RandomMap, WholeImage
from saliencykit.testing import check_masker
from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly


def mask_of(masker, size=(16, 16), batch=2):
    generator = torch.Generator().manual_seed(0)
    images, labels = PlantedEvidence().examples(batch, generator=generator, size=size)
    return masker(QueryOnly(PlantedEvidence()), images, labels, generator=generator)


@pytest.mark.parametrize(
    ("area", "size"),
    [(0.5, (224, 224)), (0.25, (16, 16)), (0.1, (9, 16)), (1.0, (5, 7)), (0.01, (4, 4))],
)
def test_center_box_is_centered_and_has_its_area(area, size):
    mask = mask_of(CenterBox(area=area), size)
    assert mask.shape == (2, 1, *size)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    height, width = size
    sides = max(1, round(height * area**0.5)), max(1, round(width * area**0.5))
    assert mask[0].sum().item() == sides[0] * sides[1]
    ys, xs = mask[0, 0].any(1).nonzero().flatten(), mask[0, 0].any(0).nonzero().flatten()
    assert abs(ys[0].item() - (height - 1 - ys[-1].item())) <= 1
    assert abs(xs[0].item() - (width - 1 - xs[-1].item())) <= 1


def test_center_box_covers_half_of_the_image_by_default():
    assert abs(mask_of(CenterBox(), (224, 224)).mean().item() - 0.5) < 0.005


@pytest.mark.parametrize("area", [0.0, -1.0, 1.5, float("nan")])
def test_an_area_out_of_range_is_refused(area):
    with pytest.raises(InputError, match="area"):
        CenterBox(area=area)


def test_whole_image_is_all_ones():
    assert bool((mask_of(WholeImage(), (5, 9)) == 1).all())


def test_ground_truth_is_one_inside_the_boxes_of_each_image_in_any_batch_order():
    images = torch.rand(3, 3, 8, 10, generator=torch.Generator().manual_seed(0))
    boxes = [
        torch.tensor([[1.2, 0.0, 2.5, 3.0], [8.0, 6.0, 99.0, 99.0]]),
        torch.zeros(0, 4),
        torch.tensor([[0.0, 0.0, 10.0, 8.0]]),
    ]
    masker = GroundTruthBox.of(images, boxes)
    rows = [2, 0, 1]
    mask = masker(
        QueryOnly(PlantedEvidence()),
        images[rows],
        torch.zeros(3, dtype=torch.long),
        generator=torch.Generator(),
    )
    wanted = torch.zeros(8, 10)
    wanted[0:3, 1:3] = 1
    wanted[6:, 8:] = 1
    assert torch.equal(mask[1, 0], wanted)
    assert bool((mask[0] == 1).all())
    assert bool((mask[2] == 0).all())


def test_ground_truth_keeps_the_masker_contract_on_known_images():
    black_box, generator = PlantedEvidence(), torch.Generator().manual_seed(0)
    images, _ = black_box.examples(4, generator=generator, size=(16, 16))
    corners = torch.tensor([[2.0, 3.0, 9.0, 12.0]])
    known = torch.cat([images, images.flip(3)])
    check_masker(GroundTruthBox.of(known, [corners] * 8), black_box=black_box, images=images)


def test_ground_truth_refuses_unknown_images_and_malformed_boxes():
    with pytest.raises(InputError, match=r"GroundTruthBox.of\(images, boxes\)"):
        mask_of(GroundTruthBox())
    images = torch.zeros(2, 3, 4, 4)
    with pytest.raises(InputError, match="one tensor of bounding boxes per image"):
        GroundTruthBox.of(images, [torch.zeros(1, 4)])
    with pytest.raises(InputError, match=r"\(n, 4\)"):
        GroundTruthBox.of(images, [torch.zeros(4), torch.zeros(1, 4)])


def test_a_random_map_depends_on_the_image_and_the_seed_only(black_box, examples):
    images, labels = examples
    batch = RandomMap()(black_box, images, labels, generator=torch.Generator().manual_seed(3))
    alone = RandomMap()(
        black_box, images[2:3], labels[:1], generator=torch.Generator().manual_seed(3)
    )
    assert torch.equal(batch[2], alone[0]), "neither the rest of the batch nor the label matters"
    assert not torch.equal(batch[0], batch[1])
    other = RandomMap()(black_box, images, labels, generator=torch.Generator().manual_seed(4))
    assert not torch.equal(batch, other)


def test_a_random_map_is_uniform_noise_of_grid_size_cells_per_side(black_box, examples):
    images, labels = examples
    fine = RandomMap(grid_size=16)(
        black_box, images, labels, generator=torch.Generator().manual_seed(0)
    )
    assert 0.45 < float(fine.mean()) < 0.55
    assert 0.07 < float(fine.var()) < 0.1  # 1/12
    coarse = RandomMap(grid_size=2)(
        black_box, images, labels, generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(coarse[..., :4, :4], coarse[..., :1, :1].expand(-1, -1, 4, 4)), (
        "enlarged bilinearly, so the corners are flat"
    )


@pytest.mark.parametrize("grid_size", [0, 2.5])
def test_a_bad_grid_size_of_a_random_map_is_refused(grid_size):
    with pytest.raises(InputError, match="grid_size"):
        RandomMap(grid_size=grid_size)
