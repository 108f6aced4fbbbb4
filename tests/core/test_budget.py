"""Masks of a given area, from every masker, wherever one is named."""

import pickle

import pytest
import torch

from saliencykit import explain, explain_dataset
from saliencykit.core.errors import ContractError, GradientError, InputError
from saliencykit.core.masker import Masker
from saliencykit.explanation import BatchExplainer
from saliencykit.maskers import CenterBox, Gradient, Rise
from saliencykit.testing import PlantedEvidence, QueryOnly
from saliencykit.video import explain_frames
from tests.helpers import seeded

BLACK_BOX = PlantedEvidence()
IMAGES, LABELS = BLACK_BOX.examples(3, generator=seeded())
NAMES = (
    "rise:samples=40",
    "occlusion",
    "gradient",
    "iterative:steps=2",
    "whole-image",
    "center-box",
)
LAYERED = ("grad-cam", "eigen-cam", "layer-cam", "deconvolution")


@pytest.mark.filterwarnings("ignore::saliencykit.core.errors.ReliabilityWarning")
@pytest.mark.parametrize("name", NAMES + LAYERED)
def test_every_masker_gives_a_mask_of_the_wanted_area(name):
    model = "demo" if name in LAYERED else BLACK_BOX
    options = {"masker": name, "verify": False, "inputs": "raw"}
    own = explain(model, IMAGES, LABELS, **options)
    budgeted = explain(model, IMAGES, LABELS, budget=0.1, **options)
    assert torch.allclose(budgeted.area, torch.full((3,), 0.1), atol=1e-3)
    nested = own.nested((0.1, 0.4))
    assert torch.allclose(nested.mean((2, 3)), torch.tensor([0.1, 0.4]), atol=1e-5)
    assert bool((nested[:, 0] <= nested[:, 1]).all())
    assert torch.allclose(budgeted.mask, nested[:, :1], atol=1e-5)
    # the order of the pixels survives the budget
    assert torch.allclose(budgeted.nested((0.4,)), nested[:, 1:], atol=1e-5)


def test_a_budget_does_not_change_the_random_numbers_of_the_masker():
    masker = Rise(samples=40)
    own = masker.attribute(BLACK_BOX, IMAGES, LABELS, generator=seeded())
    other = masker.with_budget(0.2).attribute(BLACK_BOX, IMAGES, LABELS, generator=seeded())
    assert torch.equal(own.attributions, other.attributions)
    alone = masker.with_budget(0.2)(BLACK_BOX, IMAGES[1:2], LABELS[1:2], generator=seeded())
    assert (other.mask[1:2] - alone).abs().mean() < 1e-4  # rounding may swap two ranks


def test_a_masker_with_a_budget_says_so_and_can_be_sent_elsewhere():
    masker = Gradient().with_budget(0.1)
    assert masker.needs_gradient
    assert repr(masker) == f"{Gradient()!r}.with_budget(0.1)"
    assert pickle.loads(pickle.dumps(masker)) == masker
    assert Gradient().with_budget(None) == Gradient()
    with pytest.raises(GradientError, match="Gradient needs gradients"):
        masker(QueryOnly(BLACK_BOX), IMAGES, LABELS, generator=seeded())


@pytest.mark.parametrize("budget", [0, 1.0, 10])
def test_a_budget_is_a_fraction_of_the_pixels(budget):
    with pytest.raises(InputError, match=r"CenterBox.with_budget.*a number in \(0, 1\)"):
        explain(BLACK_BOX, IMAGES, masker=CenterBox(), budget=budget)


def test_data_sets_batches_and_frames_take_a_budget(tmp_path):
    data = list(zip(IMAGES, LABELS.tolist(), strict=True))
    options = {"masker": "rise:samples=40", "verify": False, "budget": 0.3}
    saved = explain_dataset(BLACK_BOX, data, output_dir=tmp_path, **options)
    assert [row.area for row in saved.rows()] == pytest.approx([0.3] * 3, abs=1e-3)
    with pytest.raises(InputError, match="masker"):  # another run
        explain_dataset(BLACK_BOX, data, output_dir=tmp_path, **options | {"budget": 0.2})
    batch = BatchExplainer(BLACK_BOX, **options)({"image": list(IMAGES), "label": LABELS.tolist()})
    assert batch["area"].tolist() == pytest.approx([0.3] * 3, abs=1e-3)
    frames = explain_frames(BLACK_BOX, IMAGES, 0, "center-box", budget=0.3, prefetch=0)
    assert [frame.area.item() for frame in frames] == pytest.approx([0.3] * 3, abs=1e-3)


@pytest.mark.filterwarnings("ignore::saliencykit.core.errors.ReliabilityWarning")
def test_several_labels_and_regions_have_a_mask_of_the_budget_each():
    explanation = explain(
        BLACK_BOX, IMAGES[:1], [[0, 1]], masker="rise:samples=40", regions=2, budget=0.1
    )
    assert len(explanation) == 4
    assert torch.allclose(explanation.area, torch.full((4,), 0.1), atol=0.01)
    assert bool((explanation.mask[0] + explanation.mask[1] <= 1 + 1e-6).all())


def test_a_mask_that_is_no_mask_is_refused_with_the_name_of_its_masker():
    class Broken(Masker):
        def mask(self, black_box, images, labels, generator):
            return torch.full((len(images), 1, 2, 2), 3.0)

    with pytest.raises(ContractError, match=r"Broken\.mask returned values from 3"):
        Broken().with_budget(0.1)(BLACK_BOX, IMAGES, LABELS, generator=seeded())
