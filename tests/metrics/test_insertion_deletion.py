from itertools import pairwise

import numpy as np
import pytest
import torch

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.constant import Constant
from saliencykit.alternatives.noise import Noise
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.metric import Sample
from saliencykit.metrics.insertion_deletion import Deletion, Insertion
from saliencykit.testing.black_boxes import Counting, PlantedEvidence


def slow(black_box, image, label, values, fill, steps, chosen, insert):
    """One pixel list, one edit and one question at a time; the area by adding up trapezoids."""
    curve = []
    for step in range(steps + 1):
        mask = chosen(values, round(step / steps * values.size))
        mask = mask if insert else 1 - mask
        curve.append(black_box.p(image * mask + fill * (1 - mask), label))
    return sum((a + b) / 2 / steps for a, b in pairwise(curve)), curve[0], curve[-1]


@pytest.mark.parametrize(
    "metric",
    [Insertion(), Deletion(), Insertion(steps=5, alternative=Noise()), Deletion(steps=154)],
)
def test_it_equals_a_slow_reference(metric, weighing, scores_of, some, chosen):
    images, labels, maps = some
    fills = metric.alternative.for_black_box(weighing)(
        images, generator=torch.Generator().manual_seed(0)
    ).numpy()
    got = scores_of(metric, weighing, images, labels, maps)
    for i in range(4):
        insert = isinstance(metric, Insertion)
        expected = slow(
            weighing,
            images[i].numpy(),
            labels[i],
            maps[i, 0].numpy(),
            fills[i],
            metric.steps,
            chosen,
            insert,
        )
        assert [got[name][i].item() for name in ("auc", "start", "end")] == pytest.approx(
            expected, abs=1e-9
        )


def test_the_curve_ends_at_the_image_and_the_alternative(weighing, scores_of, some):
    images, labels, maps = some
    insertion, deletion = (
        scores_of(metric, weighing, images, labels, maps) for metric in (Insertion(), Deletion())
    )
    whole = weighing(images).softmax(1)[torch.arange(4), labels]
    assert torch.allclose(insertion["end"], whole)
    assert torch.allclose(deletion["start"], whole)
    blurred = Blur()(images, generator=torch.Generator())
    assert torch.allclose(insertion["start"], weighing(blurred).softmax(1)[torch.arange(4), labels])


def test_the_evidence_scores_better_than_its_complement(black_box, examples, scores_of):
    images, labels = examples
    truth = black_box.evidence(images, labels)
    gray = Deletion(alternative=Constant(color=0.5))
    assert bool((scores_of(Insertion(), black_box, images, labels, truth)["auc"] > 0.9).all())
    assert bool((scores_of(Insertion(), black_box, images, labels, 1 - truth)["auc"] < 0.4).all())
    assert bool((scores_of(gray, black_box, images, labels, truth)["auc"] < 0.4).all())
    assert bool((scores_of(gray, black_box, images, labels, 1 - truth)["auc"] > 0.9).all())


def test_it_needs_one_query_per_step_and_one_more():
    black_box = Counting(PlantedEvidence())
    images, labels = black_box.black_box.examples(2, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    Insertion(steps=10)(
        black_box,
        Sample(images, labels),
        mask,
        explain=black_box.black_box.evidence,
        generator=torch.Generator(),
    )
    assert black_box.num_images == 22


@pytest.mark.parametrize("metric", [Insertion, Deletion])
@pytest.mark.parametrize("wrong", [{"steps": 0}, {"steps": 2.5}, {"alternative": "blur"}])
def test_wrong_arguments_are_refused(metric, wrong):
    with pytest.raises(InputError, match=metric.__name__):
        metric(**wrong)


def test_insertion_is_better_higher_and_deletion_lower():
    assert Insertion.higher_is_better
    assert not Deletion.higher_is_better


def test_the_area_under_a_straight_line_is_exact(scores_of):
    """The probability grows by the same amount with each pixel: the area is the mean of its
    ends for any steps.
    """

    class Ramp(BlackBox):
        num_classes, differentiable = 2, False

        def logits(self, images):
            p = images.mean((1, 2, 3)).clamp(0.01, 0.99)
            return torch.stack([p, 1 - p], 1).log()

    ones = torch.ones(1, 3, 8, 8, dtype=torch.float64)
    mask = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    black = Insertion(alternative=Constant(color=0.0), steps=64)
    assert scores_of(black, Ramp(), ones, torch.tensor([0]), mask)["auc"].item() == pytest.approx(
        0.5, abs=1e-9
    )


def test_deletion_equals_quantus_pixel_flipping(scores_of, some):
    """Pixels of one-channel images set to black one row at a time: Quantus' curve without its
    image, and with one less step.
    """
    quantus = pytest.importorskip("quantus")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(11 * 14, 3)).eval()
    images, labels = some[0][:, :1].float(), some[1]
    images[..., 0, 0] = 0  # their black is the smallest value of the image
    # no ties: Quantus leaves them to numpy
    maps = torch.rand(4, 1, 11, 14, generator=torch.Generator().manual_seed(3))
    metric = quantus.PixelFlipping(
        features_in_step=14,
        perturb_baseline="black",
        perturb_func_kwargs={},
        disable_warnings=True,
        abs=False,
        normalize=False,
    )
    theirs = np.array(
        metric(
            model=model,
            x_batch=images.numpy(),
            y_batch=labels.numpy(),
            a_batch=maps.numpy(),
            softmax=True,
        )
    )
    black_box = TorchBlackBox(model)
    black_box(images)
    ours = scores_of(
        Deletion(steps=11, alternative=Constant(color=0.0)), black_box, images, labels, maps
    )
    curve = np.concatenate([ours["start"][:, None].numpy(), theirs], axis=1)
    assert np.allclose(ours["end"].numpy(), theirs[:, -1], atol=1e-5)
    assert np.allclose(ours["auc"].numpy(), np.trapezoid(curve, dx=1 / 11, axis=1), atol=1e-5)
