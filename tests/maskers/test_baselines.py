import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.maskers.baselines import CenterBox, GroundTruthBox, WholeImage
from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly
from saliencykit.testing.contracts import check_masker


def ask(masker, size=(16, 16), batch=2):
    generator = torch.Generator().manual_seed(0)
    images, labels = PlantedEvidence().examples(batch, generator=generator, size=size)
    return masker(QueryOnly(PlantedEvidence()), images, labels, generator=generator)


@pytest.mark.parametrize(
    ("area", "size"),
    [(0.5, (224, 224)), (0.25, (16, 16)), (0.1, (9, 16)), (1.0, (5, 7)), (0.01, (4, 4))],
)
def test_center_box_has_its_area_and_is_in_the_middle(area, size):
    mask = ask(CenterBox(area=area), size)
    assert mask.shape == (2, 1, *size)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    height, width = size
    sides = max(1, round(height * area**0.5)), max(1, round(width * area**0.5))
    assert mask[0].sum().item() == sides[0] * sides[1]
    ys, xs = mask[0, 0].any(1).nonzero().flatten(), mask[0, 0].any(0).nonzero().flatten()
    assert abs(ys[0].item() - (height - 1 - ys[-1].item())) <= 1
    assert abs(xs[0].item() - (width - 1 - xs[-1].item())) <= 1


def test_the_paper_s_box_covers_half_of_the_picture():
    assert abs(ask(CenterBox(), (224, 224)).mean().item() - 0.5) < 0.005


@pytest.mark.parametrize("area", [0.0, -1.0, 1.5, float("nan")])
def test_a_wrong_area_is_refused(area):
    with pytest.raises(InputError, match="area"):
        CenterBox(area=area)


def test_whole_image_keeps_everything():
    assert bool((ask(WholeImage(), (5, 9)) == 1).all())


def test_ground_truth_is_inside_of_every_box_of_its_own_picture_whatever_the_batch():
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


def test_ground_truth_keeps_the_contract_on_pictures_that_it_knows():
    black_box, generator = PlantedEvidence(), torch.Generator().manual_seed(0)
    images, _ = black_box.examples(4, generator=generator, size=(16, 16))
    corners = torch.tensor([[2.0, 3.0, 9.0, 12.0]])
    known = torch.cat([images, images.flip(3)])
    check_masker(GroundTruthBox.of(known, [corners] * 8), black_box=black_box, images=images)


def test_ground_truth_of_unknown_pictures_and_wrong_boxes_is_refused():
    with pytest.raises(InputError, match=r"GroundTruthBox.of\(images, boxes\)"):
        ask(GroundTruthBox())
    images = torch.zeros(2, 3, 4, 4)
    with pytest.raises(InputError, match="one tensor of boxes per picture"):
        GroundTruthBox.of(images, [torch.zeros(1, 4)])
    with pytest.raises(InputError, match=r"\(n, 4\)"):
        GroundTruthBox.of(images, [torch.zeros(4), torch.zeros(1, 4)])
