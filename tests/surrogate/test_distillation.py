import numpy as np
import pytest
import torch
from torch import nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.surrogate.distillation import distill, divergence
from saliencykit.surrogate.masked_images import MaskedImages


def black_box(*, classes=3, seed=0):
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8, classes)
    )
    return TorchBlackBox(network, mean=(0.5,) * 3, std=(0.25,) * 3, size=2)


@pytest.fixture
def lesson(generator):
    pixels = torch.randint(256, (50, 3, 2, 2), dtype=torch.uint8, generator=generator)
    light = pixels.float().mean((2, 3)) / 30
    return MaskedImages(pixels, torch.arange(50), torch.ones(50)), light


def taught(lesson, **options):
    student, steps = black_box(), []
    distill(
        student,
        *lesson,
        **(
            {"steps": 150, "batch_size": 16, "lr": 0.02, "seed": 0, "on_step": steps.append}
            | options
        ),
    )
    return student, steps


def test_it_learns_and_leaves_a_box_behind(lesson):
    student, steps = taught(lesson)
    assert [s.number for s in steps] == list(range(1, 151))
    assert sum(s.loss for s in steps[-20:]) < 0.2 * sum(s.loss for s in steps[:20])
    assert not any(p.requires_grad or p.grad is not None for p in student.model.parameters())
    assert not student.model.training
    photos, answers = lesson
    with torch.no_grad():
        found = student(photos.images(torch.arange(50)))
    assert (found.argmax(1) == answers.argmax(1)).float().mean() > 0.9
    assert steps[0].phase == "training"
    assert steps[0].of == 150


def test_the_loss_is_the_divergence_in_nats(lesson):
    photos, answers = lesson
    _, steps = taught(lesson, steps=1, batch_size=50, lr=1e-9)
    reference = black_box().model.train()
    mine = reference((photos.images(torch.arange(50)) - 0.5) / 0.25).log_softmax(1)
    theirs = answers.log_softmax(1)
    assert steps[0].loss == pytest.approx(
        float((theirs.exp() * (theirs - mine)).sum(1).mean().detach()), rel=1e-4
    )


def test_the_same_seed_learns_the_same(lesson):
    one, two, other = (taught(lesson, steps=5, seed=seed)[0].model[0].weight for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_more_photos_a_step_than_there_are(lesson):
    assert len(taught(lesson, steps=3, batch_size=500)[1]) == 3


def test_a_network_that_does_not_fit(lesson):
    student = black_box(classes=4)
    with pytest.raises(InputError, match=r"returned shape \(16, 4\) for 16 images of 3 classes"):
        distill(student, *lesson, steps=1, batch_size=16, lr=0.1, seed=0, on_step=print)
    maps = TorchBlackBox(nn.Conv2d(3, 3, 1), mean=(0.5,) * 3, std=(1,) * 3, size=2)
    with pytest.raises(InputError, match=r"returns logits \(B, K\); Conv2d returned Tensor"):
        distill(maps, *lesson, steps=1, batch_size=16, lr=0.1, seed=0, on_step=print)


def test_a_loss_that_is_not_finite(lesson):
    student = black_box()
    with torch.no_grad():
        student.model[4].bias[0] = float("inf")
    with pytest.raises(SaliencyKitError, match="not finite at step 1 of 2; lower lr"):
        distill(student, *lesson, steps=2, batch_size=16, lr=0.1, seed=0, on_step=print)


def test_the_divergence_of_labels_is_the_sum_of_their_own():
    ours, theirs = (torch.randn(3, 4, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    p, q = theirs.sigmoid().numpy(), ours.sigmoid().numpy()
    slow = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(1)
    np.testing.assert_allclose(divergence(ours, theirs, "sigmoid").numpy(), slow, rtol=1e-4)
    p, q = theirs.softmax(1).numpy(), ours.softmax(1).numpy()
    slow = (p * np.log(p / q)).sum(1)
    np.testing.assert_allclose(divergence(ours, theirs, "softmax").numpy(), slow, rtol=1e-4)
