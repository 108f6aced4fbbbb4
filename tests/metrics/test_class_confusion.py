import numpy as np
import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.core.metric import Sample
from saliencykit.metrics.class_confusion import ClassConfusion, correlation
from saliencykit.testing.black_boxes import Counting, PlantedEvidence

BOX = PlantedEvidence()


def make_images(count=5):
    return BOX.examples(count, generator=torch.Generator().manual_seed(1))


def compared(mask, explain, metric=None, black_box=BOX, seed=0):
    images, labels = make_images(len(mask))
    return (metric or ClassConfusion())(
        black_box,
        Sample(images, labels),
        mask,
        explain=explain,
        generator=torch.Generator().manual_seed(seed),
    )


def slow(own, other):
    own, other = own.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    least = sum(min(a, b) for a, b in zip(own, other, strict=True))
    most = sum(max(a, b) for a, b in zip(own, other, strict=True))
    return {
        "area_ratio": other.sum() / own.sum(),
        "correlation": np.corrcoef(own, other)[0, 1],
        "overlap": least / most,
    }


def test_it_equals_a_slow_reference():
    g = torch.Generator().manual_seed(0)
    mask, other = torch.rand(5, 1, 16, 16, generator=g), torch.rand(5, 1, 16, 16, generator=g) ** 2
    got = compared(mask, lambda images, labels: other)
    for i in range(5):
        for name, value in slow(mask[i, 0].numpy(), other[i, 0].numpy()).items():
            assert got[name][i].item() == pytest.approx(value, abs=1e-6)


def test_all_other_classes_are_equally_likely():
    explained = []
    images, labels = make_images(1)
    for seed in range(120):
        metric, g = ClassConfusion(), torch.Generator().manual_seed(seed)
        metric(
            BOX,
            Sample(images, labels),
            torch.ones(1, 1, 16, 16),
            explain=lambda x, y: explained.append(int(y)) or x[:, :1],
            generator=g,
        )
    assert labels.item() not in explained
    assert min(explained.count(other) for other in set(range(4)) - {labels.item()}) > 20


def test_the_runner_up_is_the_most_probable_of_the_others():
    seen = []
    black_box = Counting(BOX)
    images, _ = make_images()
    compared(
        torch.ones(5, 1, 16, 16),
        lambda x, y: seen.append(y) or x[:, :1],
        ClassConfusion(other="runner-up"),
        black_box,
    )
    assert torch.equal(seen[0], BOX(images).topk(2).indices[:, 1])
    assert black_box.num_images == 5
    compared(torch.ones(5, 1, 16, 16), lambda x, y: x[:, :1], black_box=black_box)
    assert black_box.num_images == 5


def test_a_masker_that_ignores_the_class_has_ones_and_a_perfect_one_zeros():
    images, labels = make_images()
    mask = BOX.evidence(images, labels)
    same = compared(mask, lambda x, y: mask)
    assert all(torch.allclose(value, torch.ones(5)) for value in same.values())
    nothing = compared(mask, lambda x, y: torch.zeros_like(mask))
    assert nothing["area_ratio"].tolist() == nothing["overlap"].tolist() == [0.0] * 5
    assert nothing["correlation"].isnan().all()
    empty = compared(torch.zeros_like(mask), lambda x, y: torch.zeros_like(mask))
    assert all(value.isnan().all() for value in empty.values())


def test_a_model_with_one_class_gives_nan():
    class Alone(type(BOX).__mro__[1]):
        num_classes, differentiable = 1, False

        def logits(self, images):
            return images.mean((1, 2, 3))[:, None]

    images, _ = make_images(2)
    sample = Sample(images, torch.zeros(2, dtype=torch.int64))
    got = ClassConfusion()(
        Alone(), sample, torch.ones(2, 1, 16, 16), explain=None, generator=torch.Generator()
    )
    assert all(value.isnan().all() for value in got.values())


def test_correlation_of_a_constant_map_is_undefined():
    assert correlation(torch.full((1, 1, 3, 3), 0.1), torch.rand(1, 1, 3, 3)).isnan().all()


def test_a_wrong_argument_is_refused():
    with pytest.raises(InputError, match="ClassConfusion"):
        ClassConfusion(other="worst")
