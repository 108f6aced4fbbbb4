import pytest
import torch

from saliencykit.core.errors import InputError, RegistryError
from saliencykit.core.masker import Found
from saliencykit.explanation.explain import explain
from saliencykit.maskers.gradient.captum_gradients import gradient
from saliencykit.maskers.on_surrogate import OnSurrogate
from saliencykit.maskers.perturbation.rise import Rise
from saliencykit.maskers.realtime.masking_network import masking_network
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.registry.manager import as_masker
from saliencykit.testing.black_boxes import Counting, PlantedEvidence, QueryOnly, iou
from saliencykit.testing.contracts import check_masker


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_it_keeps_the_contract():
    check_masker(OnSurrogate(PlantedEvidence(), gradient()))


def test_the_mask_is_the_inner_maskers_and_the_box_is_not_asked(box, examples):
    real = Counting(QueryOnly(PlantedEvidence(sharpness=3.0)))
    for masker in (gradient(), Rise(samples=20)):
        found = OnSurrogate(box, masker).find(real, *examples, generator=seeded())
        assert found.mask.shape == (4, 1, 16, 16)
        if not isinstance(masker, Rise):  # which draws from what the outer call forked
            assert torch.equal(found.mask, masker(box, *examples, generator=seeded()))
        assert (found.scores is None) == (
            masker.find(box, *examples, generator=seeded()).scores is None
        )
    assert real.asked == []


def test_gradients_for_a_box_that_has_none(box, examples):
    images, labels = examples
    answer = explain(QueryOnly(box), images, labels, masker=OnSurrogate(box, "gradient"))
    assert (iou(answer.mask, box.evidence(images, labels)) > 0.9).all()
    assert answer.kept is not None
    assert "OnSurrogate(surrogate=PlantedEvidence(" in answer.provenance["masker"]


def test_a_masker_bound_to_the_surrogate(box, examples, recwarn):
    images, labels = examples
    masker = RealTimeMasker(masking_network(box, images, encoder="own")).bind(box)
    answer = explain(QueryOnly(box), images, labels, masker=OnSurrogate(box, masker))
    assert torch.equal(answer.mask, masker(box, images, labels, generator=seeded()))
    assert not [w for w in recwarn if "another model" in str(w.message)]


def test_texts(box):
    made = as_masker("on-surrogate:demo,masker=(rise:samples=20,cells=5)")
    assert made.surrogate.num_classes == 200
    assert made.masker == Rise(samples=20, cells=5)
    assert as_masker("on-surrogate:surrogate=demo,masker=grad-cam").needs_gradient is False
    with pytest.raises(InputError, match=r"there is no file 'none.safetensors'"):
        as_masker("on-surrogate:none.safetensors,masker=mine.safetensors")
    with pytest.raises(InputError, match=r"there is no file 'mine.safetensors'"):
        as_masker("on-surrogate:demo,masker=mine.safetensors")
    with pytest.raises(RegistryError, match="no masker is called 'grab-cam'"):
        OnSurrogate(box, "grab-cam")
    with pytest.raises(InputError, match="int is no masker: give an object derived from Masker"):
        OnSurrogate(box, 3)


def test_what_it_cannot_be_used_for(box, examples):
    images, labels = examples
    masker = OnSurrogate(box, gradient())
    with pytest.raises(
        InputError, match="has 4 classes and PlantedEvidence has 5: it stands for another box"
    ):
        masker(PlantedEvidence(num_classes=5), images, labels, generator=seeded())
    with pytest.raises(InputError, match="takes raw pixels"):
        masker(box, images * 4 - 2, labels, generator=seeded())


def test_error_maps_come_along(box, examples):
    class WithError(Rise.__bases__[0]):
        def mask(self, black_box, images, labels, generator):
            part = images.mean(1, keepdim=True)
            return Found(part, part - 1, part.flatten(1).mean(1))

    found = OnSurrogate(box, WithError()).find(box, *examples, generator=seeded())
    assert torch.equal(found.scores, found.mask - 1)
    assert found.error.shape == (4,)
