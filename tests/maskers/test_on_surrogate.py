import pytest
import torch

from saliencykit.core.errors import InputError, RegistryError
from saliencykit.core.masker_output import MaskerOutput
from saliencykit.explanation.explain_images import explain
from saliencykit.maskers.gradient.input_gradients import Gradient
from saliencykit.maskers.on_surrogate import OnSurrogate
from saliencykit.maskers.perturbation.rise import Rise
from saliencykit.maskers.realtime.masking_network import masking_network
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.registry.coerce import as_masker
from saliencykit.testing import check_masker
from saliencykit.testing.black_boxes import Counting, PlantedEvidence, QueryOnly, iou
from tests.helpers import seeded


def test_keeps_the_masker_contract():
    check_masker(OnSurrogate(PlantedEvidence(), Gradient()))


def test_the_mask_is_that_of_the_inner_masker_and_the_black_box_is_not_queried(black_box, examples):
    real = Counting(QueryOnly(PlantedEvidence(sharpness=3.0)))
    for masker in (Gradient(), Rise(samples=20)):
        output = OnSurrogate(black_box, masker).attribute(real, *examples, generator=seeded())
        assert output.mask.shape == (4, 1, 16, 16)
        if not isinstance(masker, Rise):  # Rise draws from the generator that the outer call forked
            assert torch.equal(output.mask, masker(black_box, *examples, generator=seeded()))
        assert (output.attributions is None) == (
            masker.attribute(black_box, *examples, generator=seeded()).attributions is None
        )
    assert real.batch_sizes == []


def test_gradient_maskers_explain_a_query_only_black_box(black_box, examples):
    images, labels = examples
    explanation = explain(
        QueryOnly(black_box), images, labels, masker=OnSurrogate(black_box, Gradient())
    )
    assert (iou(explanation.mask, black_box.evidence(images, labels)) > 0.9).all()
    assert explanation.kept is not None
    assert "OnSurrogate(surrogate=PlantedEvidence(" in explanation.provenance["masker"]


def test_a_trained_masker_of_the_surrogate_is_used_without_a_warning(black_box, examples, recwarn):
    images, labels = examples
    masker = RealTimeMasker(masking_network(black_box, images, encoder="own")).bind(black_box)
    explanation = explain(
        QueryOnly(black_box), images, labels, masker=OnSurrogate(black_box, masker)
    )
    assert torch.equal(explanation.mask, masker(black_box, images, labels, generator=seeded()))
    assert not [w for w in recwarn if "another model" in str(w.message)]


def test_a_text_builds_the_surrogate_and_the_masker(black_box):
    made = as_masker("on-surrogate:demo,masker=(rise:samples=20,grid_size=5)")
    assert made.surrogate.num_classes == 200
    assert made.masker == Rise(samples=20, grid_size=5)
    assert as_masker("on-surrogate:surrogate=demo,masker=grad-cam").needs_gradient is False
    with pytest.raises(InputError, match=r"there is no file 'none.safetensors'"):
        as_masker("on-surrogate:none.safetensors,masker=mine.safetensors")
    with pytest.raises(InputError, match=r"there is no file 'mine.safetensors'"):
        as_masker("on-surrogate:demo,masker=mine.safetensors")
    with pytest.raises(RegistryError, match="unknown masker 'grab-cam'"):
        as_masker("on-surrogate:demo,masker=grab-cam")
    for masker in ("grad-cam", 3):
        with pytest.raises(InputError, match="OnSurrogate takes a BlackBox and a Masker; got Pl"):
            OnSurrogate(black_box, masker)


def test_another_models_surrogate_and_normalized_images_are_refused(black_box, examples):
    images, labels = examples
    masker = OnSurrogate(black_box, Gradient())
    with pytest.raises(
        InputError,
        match="has 4 classes and PlantedEvidence has 5: it is the surrogate of another model",
    ):
        masker(PlantedEvidence(num_classes=5), images, labels, generator=seeded())
    with pytest.raises(InputError, match="takes raw pixels"):
        masker(black_box, images * 4 - 2, labels, generator=seeded())


def test_attributions_and_standard_error_are_passed_on(black_box, examples):
    class WithError(Rise.__bases__[0]):
        def mask(self, black_box, images, labels, generator):
            part = images.mean(1, keepdim=True)
            return MaskerOutput(part, part - 1, part.flatten(1).mean(1))

    output = OnSurrogate(black_box, WithError()).attribute(black_box, *examples, generator=seeded())
    assert torch.equal(output.attributions, output.mask - 1)
    assert output.standard_error.shape == (4,)
