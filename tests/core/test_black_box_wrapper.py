"""What is built on Around is the inner box in all but what it changes."""

import torch

from saliencykit.core.black_box_wrapper import Around
from saliencykit.demo import demo_box, demo_picture
from saliencykit.testing.black_boxes import PlantedEvidence


class Same(Around):
    """Nothing changed."""

    def for_many(self, images):
        return Same(self.box.for_many(images))


def test_everything_is_the_inner_boxs():
    inner = demo_box()
    box = Same(inner)
    for name in (
        "num_classes",
        "differentiable",
        "max_batch",
        "device",
        "class_names",
        "module",
        "original",
        "zero",
    ):
        assert getattr(box, name) is getattr(inner, name) or getattr(box, name) == getattr(
            inner, name
        ), name
    assert repr(box) == repr(inner)
    assert torch.equal(box.prepare(demo_picture())[0], inner.prepare(demo_picture())[0])
    assert box.for_model_pixels().zero == inner.for_model_pixels().zero


def test_answers_and_gradients_pass_through():
    inner = PlantedEvidence()
    images, _ = inner.examples(2, generator=torch.Generator().manual_seed(0))
    images.requires_grad_()
    (slope,) = torch.autograd.grad(Same(inner)(images).sum(), images)
    assert torch.isfinite(slope).all()
    assert torch.equal(Same(inner)(images), inner(images))
