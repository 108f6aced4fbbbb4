import torch

from saliencykit.black_boxes.cached import CachedCopies, CachedLogits
from saliencykit.core.black_box import BlackBox
from saliencykit.testing import check_black_box
from saliencykit.testing.black_boxes import Counting, PlantedEvidence


def test_rows_and_views_are_answered_from_memory_and_others_are_queried():
    counting, images = Counting(PlantedEvidence()), torch.rand(5, 3, 16, 16)
    black_box = CachedLogits(counting)
    wanted = black_box.remember(images)
    for part, rows in (
        (images, slice(0, 5)),
        (images[2:4], slice(2, 4)),
        (images[4:].detach(), slice(4, 5)),
    ):
        assert torch.equal(black_box(part), wanted[rows])
    assert torch.equal(black_box.optimized_for(images)(images[1:]), wanted[1:])
    assert counting.num_images == 5
    for other in (
        images.clone(),
        images.flip(0),
        images[:, :, 1:],
        images[::2],
        torch.cat([images, images]),
    ):
        before = counting.num_images
        assert torch.allclose(black_box(other), PlantedEvidence()(other))
        assert counting.num_images == before + len(other)


def test_an_answer_is_the_callers_own():
    black_box, images = CachedLogits(PlantedEvidence()), torch.rand(2, 3, 16, 16)
    wanted = black_box.remember(images).clone()
    black_box(images).zero_()
    assert torch.equal(black_box(images), wanted)


def test_gradients_go_through_the_black_box():
    black_box, images = CachedLogits(PlantedEvidence()), torch.rand(2, 3, 16, 16)
    black_box.remember(images)
    leaf = images.requires_grad_()
    assert torch.autograd.grad(black_box(leaf).sum(), leaf)[0].abs().sum() >= 0


class Freezing(BlackBox):
    num_classes, differentiable, made = 2, True, 0

    def optimized_for(self, images):
        type(self).made += 1
        return self

    def logits(self, images):
        return images.mean((2, 3))[:, :2]


def test_a_copy_is_made_once_per_size():
    black_box = CachedCopies(Freezing())
    for size in (8, 8, 9, 8):
        black_box.optimized_for(torch.rand(1, 3, size, size))
    assert Freezing.made == 2


def test_both_keep_the_contract():
    images = torch.rand(3, 3, 16, 16)
    check_black_box(CachedCopies(PlantedEvidence()), images=images)
    check_black_box(CachedLogits(PlantedEvidence()), images=images)


def test_copies_of_the_last_few_sizes_are_kept():
    made = []

    class Copying(BlackBox):
        num_classes, differentiable = 2, False

        def logits(self, images):
            return images.mean((2, 3))[:, :2]

        def optimized_for(self, images):
            made.append(images.shape[2])
            return self

    keeping = CachedCopies(Copying())
    for side in (8, 9, 8, 10, 11, 9, 12, 12, 8):
        keeping.optimized_for(torch.zeros(1, 3, side, side))
    assert made == [8, 9, 10, 11, 12, 8]
