import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.maskers.boxes import CentreBox, WholeImage
from saliencykit.testing.boxes import PlantedEvidence, QueryOnly


def ask(masker, size=(16, 16), batch=2):
    generator = torch.Generator().manual_seed(0)
    images, labels = PlantedEvidence().examples(batch, generator=generator, size=size)
    return masker(QueryOnly(PlantedEvidence()), images, labels, generator=generator)


@pytest.mark.parametrize(("area", "size"), [(0.5, (224, 224)), (0.25, (16, 16)), (0.1, (9, 16)), (1.0, (5, 7)), (0.01, (4, 4))])
def test_centre_box_has_its_area_and_is_in_the_middle(area, size):
    mask = ask(CentreBox(area=area), size)
    assert mask.shape == (2, 1, *size)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    height, width = size
    sides = max(1, round(height * area**0.5)), max(1, round(width * area**0.5))
    assert mask[0].sum().item() == sides[0] * sides[1]
    ys, xs = mask[0, 0].any(1).nonzero().flatten(), mask[0, 0].any(0).nonzero().flatten()
    assert abs(ys[0].item() - (height - 1 - ys[-1].item())) <= 1
    assert abs(xs[0].item() - (width - 1 - xs[-1].item())) <= 1


def test_the_paper_s_box_covers_half_of_the_picture():
    assert abs(ask(CentreBox(), (224, 224)).mean().item() - 0.5) < 0.005


@pytest.mark.parametrize("area", [0.0, -1.0, 1.5, float("nan")])
def test_a_wrong_area_is_refused(area):
    with pytest.raises(InputError, match="area"):
        CentreBox(area=area)


def test_whole_image_keeps_everything():
    assert bool((ask(WholeImage(), (5, 9)) == 1).all())
