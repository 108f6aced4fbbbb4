"""What is built on Around is the inner box in all but what it changes."""

import torch

from saliencykit.core.black_box_wrapper import BlackBoxWrapper
from saliencykit.demo import demo_black_box, demo_image
from saliencykit.testing.black_boxes import PlantedEvidence


class Same(BlackBoxWrapper):
    """Nothing changed."""


def test_a_wrapper_has_the_attributes_of_the_black_box_inside():
    inner = demo_black_box()
    black_box = Same(inner)
    for name in (
        "num_classes",
        "differentiable",
        "max_batch_size",
        "device",
        "class_names",
        "module",
        "source_module",
        "baseline_color",
    ):
        assert getattr(black_box, name) is getattr(inner, name) or getattr(
            black_box, name
        ) == getattr(inner, name), name
    assert repr(black_box) == repr(inner)
    assert torch.equal(black_box.prepare(demo_image())[0], inner.prepare(demo_image())[0])
    assert (
        black_box.without_preprocessing().baseline_color
        == inner.without_preprocessing().baseline_color
    )


def test_logits_and_gradients_pass_through():
    inner = PlantedEvidence()
    images, _ = inner.examples(2, generator=torch.Generator().manual_seed(0))
    images.requires_grad_()
    (slope,) = torch.autograd.grad(Same(inner)(images).sum(), images)
    assert torch.isfinite(slope).all()
    assert torch.equal(Same(inner)(images), inner(images))
