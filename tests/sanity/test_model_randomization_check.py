"""Masks of a randomized model against those of a second seed."""

import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.data.images import as_images
from saliencykit.demo import demo_black_box
from saliencykit.maskers.realtime.masking_network import masking_network
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.registry.coerce import trained_masker
from saliencykit.sanity.model_randomization_check import model_randomization
from saliencykit.testing.black_boxes import PlantedEvidence


def test_a_masker_that_queries_the_model_passes_and_edges_fail(maskers, planted, patch_black_box):
    """Without any training: Adebayo's test. A model of random patches does not respond to the
    patch in the image.
    """
    _, images, labels = planted(16)
    assert torch.equal(patch_black_box(images).argmax(1), labels)
    found = model_randomization(
        patch_black_box, "occlusion:window=4,stride=2", images, randomize="weights"
    )
    assert found.passed, found.line
    assert found.same.mean == 1
    assert found.same_overlap.mean == 1 > found.random_overlap.mean
    assert (found.retrained, found.steps, found.validated, found.randomize) == (
        False,
        None,
        None,
        "weights",
    )
    edges = model_randomization(patch_black_box, maskers["edges"], images)
    assert edges.passed is False
    assert edges.difference.mean == 0
    assert "model-randomization: FAIL" in edges.line
    assert (
        model_randomization(patch_black_box, "whole-image", images, randomize="weights").passed
        is False
    )


def test_noise_is_unclear_and_missing_masks_are_counted(maskers, planted, patch_black_box):
    _, images, labels = planted(16)
    noise = model_randomization(patch_black_box, "random", images)
    assert noise.passed is None
    halting = model_randomization(patch_black_box, maskers["halting"], images, labels)
    assert sum(halting.missing.values()) == 3 * 8
    assert halting.difference.n == 8


def test_another_model_may_be_given(planted, maskers):
    black_box, images, _ = planted(6)
    with pytest.raises(InputError, match="random_model="):
        model_randomization(black_box, maskers["edges"], images)
    found = model_randomization(
        black_box, maskers["edges"], images, random_model=PlantedEvidence(sharpness=1.0)
    )
    assert (found.passed, found.randomize) == (False, "given")


def test_a_trained_masker_is_trained_again(planted, patch_black_box):
    """Two steps say nothing; what is trained, on what and for whom is right."""
    _, images, _ = planted(24)
    before = {name: values.clone() for name, values in patch_black_box.model.state_dict().items()}
    masker = RealTimeMasker(masking_network(patch_black_box, images, encoder="own")).bind(
        patch_black_box
    )
    told = []
    found = model_randomization(
        patch_black_box,
        masker,
        images,
        steps=2,
        fit_options={"batch_size": 4, "warmup_steps": 0},
        on_stage=lambda *args: told.append(args),
    )
    assert (found.retrained, found.steps, found.randomize) == (True, 2, "head")
    assert len(found.validated) == 2
    assert found.difference.n == 8, "every third image"
    assert ("training for the model", 2, 2) in told
    assert ("training for the random model", 2, 2) in told
    assert all(
        torch.equal(before[name], values)
        for name, values in patch_black_box.model.state_dict().items()
    )
    given = model_randomization(
        patch_black_box,
        masker,
        images[:4],
        training_data=images,
        steps=1,
        fit_options={"batch_size": 4, "warmup_steps": 0},
    )
    assert given.difference.n == 4
    with pytest.raises(InputError, match="it needs 12"):
        model_randomization(patch_black_box, masker, images[:4])
    with pytest.raises(InputError, match="fit_options"):
        model_randomization(patch_black_box, masker, images, fit_options={"stpes": 2})


def crops(step):
    """Parts of three photos as the embedded classifier takes them."""
    from skimage.data import astronaut, chelsea, coffee

    corners = [(y, x) for y in range(0, 121, step) for x in range(0, 240, step)]
    parts = [
        photo[y : y + 160, x : x + 160]
        for photo in (chelsea(), coffee(), astronaut())
        for y, x in corners
    ]
    return torch.cat([as_images(part, demo_black_box(), inputs="raw").images for part in parts])


@pytest.mark.slow
def test_guided_backpropagation_fails_as_in_the_paper_and_grad_cam_passes():
    """Adebayo et al. 2018, figures 2 and 4."""
    images = crops(120)
    guided, cam = (
        model_randomization("demo", masker, images) for masker in ("guided-backprop", "grad-cam")
    )
    assert guided.passed is False, guided.line
    assert cam.passed, cam.line
    assert guided.randomize == cam.randomize == "head"


@pytest.mark.slow
def test_the_shipped_masker_depends_on_what_the_classifier_learned():
    """Twenty-five steps each: half a minute."""
    black_box = demo_black_box()
    found = model_randomization(black_box, trained_masker(black_box), crops(60), steps=25)
    print(found.line)
    assert found.same.mean > 0.6, found.line
    assert found.random.mean < found.same.mean - 0.1, found.line
