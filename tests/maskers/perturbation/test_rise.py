"""RISE against a plain loop over the same masks, the published masks, and its use of queries."""

import gc
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Generator

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.choice import Choice
from saliencykit.alternatives.constant import Constant
from saliencykit.alternatives.crop import Crop
from saliencykit.alternatives.noise import Noise
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.alternative import compose
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError, ReliabilityWarning
from saliencykit.maskers.perturbation.rise import Rise
from saliencykit.testing.black_boxes import Counting, PlantedEvidence, QueryOnly


class Recorder(BlackBox):
    """The logits of another black box; keeps the images of all queries."""

    differentiable = False

    def __init__(self, black_box, max_batch_size=None):
        self.black_box, self.max_batch_size, self.num_classes, self.seen = (
            black_box,
            max_batch_size,
            black_box.num_classes,
            [],
        )

    def logits(self, images):
        self.seen.append(images.clone())
        return self.black_box(images)


class Gray(BlackBox):
    """p is the mean brightness: linear in the mask for a white image on black."""

    num_classes, differentiable = 2, False

    def logits(self, images):
        light = images.mean((1, 2, 3)).clamp(1e-6, 1 - 1e-6)
        return torch.stack([light, 1 - light], 1).log()


class ConstantLogits(BlackBox):
    """The same logits for every image."""

    num_classes, differentiable = 2, False

    def logits(self, images):
        return torch.zeros(len(images), 2)


def attribute(masker, black_box, images, labels, seed=0):
    return masker.attribute(black_box, images, labels, generator=Generator().manual_seed(seed))


def queried_masks(masker, size, label=0, seed=0):
    """The masks that the masker makes: on a white image and a black fill each query is a mask."""
    black_box = Recorder(Gray(), max_batch_size=7)
    output = attribute(masker, black_box, torch.ones(1, 1, *size), torch.tensor([label]), seed)
    return torch.cat(black_box.seen), output


@pytest.mark.parametrize("sampling", ["antithetic", "random"])
@pytest.mark.parametrize(
    ("samples", "size", "grid_size", "keep_prob"),
    [(300, (16, 16), 7, 0.5), (40, (9, 13), 3, 0.3), (5, (4, 4), 7, 0.5)],
)
def test_equals_a_plain_loop_over_the_same_masks(samples, size, grid_size, keep_prob, sampling):
    masks, output = queried_masks(
        Rise(
            samples=samples,
            grid_size=grid_size,
            keep_prob=keep_prob,
            alternative=Constant(color=0.0),
            estimate="mean",
            sampling=sampling,
        ),
        size,
    )
    assert masks.shape == (samples, 1, *size)
    ys = [float(mask.mean().clamp(1e-6, 1 - 1e-6)) for mask in masks]
    mean_y, mean_mask = sum(ys) / samples, masks.double().mean(0)[0]
    slow = torch.zeros(size, dtype=torch.float64)
    for y, mask in zip(ys, masks.double(), strict=True):
        slow += (y - mean_y) * (mask[0] - mean_mask)
    slow /= samples * keep_prob
    assert torch.allclose(output.attributions[0, 0].double(), slow, atol=1e-5)
    assert slow.abs().max() > 1e-3


def test_attributions_are_the_published_map_minus_that_of_a_constant_probability():
    masks, output = queried_masks(
        Rise(samples=200, alternative=Constant(color=0.0), estimate="mean"), (16, 16)
    )
    y = masks.mean((1, 2, 3))
    published = (y[:, None, None] * masks[:, 0]).mean(0) / 0.5
    assert torch.allclose(
        output.attributions[0, 0], published - y.mean() * masks[:, 0].mean(0) / 0.5, atol=1e-5
    )


def test_standard_error_of_the_mean_estimate_comes_from_eight_groups_of_pairs():
    masks, output = queried_masks(
        Rise(samples=320, alternative=Constant(color=0.0), estimate="mean"), (12, 12)
    )
    y, mask = masks.mean((1, 2, 3)), masks[:, 0]
    terms = (y - y.mean())[:, None, None] * (mask - mask.mean(0)) / 0.5
    means = terms.view(-1, 8, 2, 12, 12).mean((0, 2))
    assert torch.allclose(output.standard_error[0, 0], means.std(0) / math.sqrt(8), atol=1e-6)


@pytest.fixture(scope="module")
def converged():
    """The map of many samples, for the first example of seed 5."""
    black_box = PlantedEvidence()
    images, labels = black_box.examples(1, generator=Generator().manual_seed(5))
    return attribute(Rise(samples=8000), black_box, images, labels, 99).attributions


@pytest.mark.parametrize("estimate", ["linear", "mean"])
@pytest.mark.parametrize("samples", [128, pytest.param(512, marks=pytest.mark.slow)])
def test_standard_error_estimates_the_distance_to_the_map_of_many_samples(
    black_box, converged, estimate, samples
):
    images, labels = black_box.examples(1, generator=Generator().manual_seed(5))
    repeats = [
        attribute(Rise(samples=samples, estimate=estimate), black_box, images, labels, seed)
        for seed in range(12)
    ]
    true = torch.stack([r.attributions - converged for r in repeats]).square().mean(0).sqrt().mean()
    told = torch.stack([r.standard_error for r in repeats]).mean()
    assert 0.6 < float(told / true) < 1.4


def test_regression_needs_fewer_masks_for_the_same_map(black_box):
    images, labels = black_box.examples(1, generator=Generator().manual_seed(5), size=32)
    converged = attribute(
        Rise(samples=8000, estimate="mean", sampling="random"), black_box, images, labels, 99
    ).attributions
    few = attribute(Rise(samples=256), black_box, images, labels).attributions
    many = attribute(
        Rise(samples=512, estimate="mean", sampling="random"), black_box, images, labels
    ).attributions
    assert (few - converged).square().mean() < (many - converged).square().mean()


def test_target_correlation_stops_early_and_is_reached(black_box):
    images, labels = black_box.examples(2, generator=Generator().manual_seed(5), size=32)
    counted = Counting(QueryOnly(black_box))
    output = attribute(Rise(samples=4000, target_correlation=0.95), counted, images, labels)
    assert counted.num_images < 2 * 1000
    converged = attribute(Rise(samples=6000), black_box, images, labels, 99).attributions
    for one, other in zip(output.attributions, converged, strict=True):
        assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1] > 0.93


def test_a_target_correlation_that_was_not_reached_is_warned_about(black_box, examples):
    with pytest.warns(
        ReliabilityWarning,
        match=r"after 300 masks .* below target_correlation=0\.99999.*samples=600",
    ):
        attribute(
            Rise(samples=300, target_correlation=0.99999, estimate="mean"),
            black_box,
            *(x[:1] for x in examples),
        )


def test_target_correlation_stops_at_the_first_check_for_a_constant_model():
    counted = Counting(ConstantLogits())
    attribute(
        Rise(samples=2000, target_correlation=0.9),
        counted,
        torch.rand(1, 3, 8, 8),
        torch.tensor([0]),
    )
    assert counted.num_images == 256


@pytest.mark.parametrize(("size", "grid_size"), [((28, 28), 7), ((13, 20), 4), ((3, 3), 7)])
def test_masks_are_upsampled_grids_cropped_at_an_offset(size, grid_size):
    """For every mask, least squares finds an offset and a grid that give it."""
    masks, _ = queried_masks(
        Rise(samples=3, grid_size=grid_size, alternative=Constant(color=0.0)), size
    )
    cell = [math.ceil(side / grid_size) for side in size]
    units = torch.eye(grid_size * grid_size, dtype=torch.float64).view(-1, 1, grid_size, grid_size)
    resize_maps = F.interpolate(
        units, size=[(grid_size + 1) * c for c in cell], mode="bilinear", align_corners=False
    )[:, 0]
    for mask in masks[:, 0].double():
        misses = []
        for top, left in itertools.product(range(cell[0] + 1), range(cell[1] + 1)):
            design = resize_maps[:, top : top + size[0], left : left + size[1]].flatten(1).T
            grid = torch.linalg.lstsq(design, mask.flatten()[:, None], driver="gelsd").solution
            misses.append(float((design @ grid - mask.flatten()[:, None]).abs().max()))
        assert min(misses) < 1e-5


def test_the_mean_mask_is_keep_prob_everywhere():
    masks, _ = queried_masks(
        Rise(samples=4000, keep_prob=0.3, alternative=Constant(color=0.0)), (14, 14)
    )
    assert (masks.mean(0) - 0.3).abs().max() < 0.04
    assert masks.min() >= -1e-6
    assert masks.max() <= 1 + 1e-6


@pytest.mark.parametrize(
    "alternative", [Constant(color="zero"), Blur(sigma=2.0), Noise()], ids=repr
)
def test_edits_are_compositions_with_one_fill(alternative):
    white, black_box = (
        torch.rand(1, 3, 12, 12, generator=Generator().manual_seed(2)),
        PlantedEvidence(),
    )
    recorder = Recorder(black_box, max_batch_size=5)
    attribute(Rise(samples=12, alternative=alternative), recorder, white, torch.tensor([1]))
    edits = torch.cat(recorder.seen)
    recorder = Recorder(black_box)
    attribute(Rise(samples=12, alternative=alternative), recorder, white, torch.tensor([1]))
    assert torch.allclose(edits, torch.cat(recorder.seen), atol=1e-6)
    if isinstance(alternative, Noise):
        return  # the masker draws its own fill
    fill = alternative(white, generator=Generator())
    away = white - fill
    # least squares over the channels
    mask = ((edits - fill) * away).sum(1, keepdim=True) / away.square().sum(1, keepdim=True)
    assert torch.allclose(compose(white, mask, fill), edits, atol=1e-5)


def test_the_default_fill_is_zero_after_the_models_normalization():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 4))
    seen = []
    net.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    black_box = TorchBlackBox(net, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2), size=8)
    image = torch.rand(1, 3, 8, 8, generator=Generator().manual_seed(0))
    attribute(Rise(samples=20, grid_size=1, keep_prob=0.5), black_box, image, torch.tensor([0]))
    shown = torch.cat(seen[-1:])
    dropped = shown.abs().amax((1, 2, 3)) < 1e-6
    assert dropped.any()
    assert not dropped.all()


def test_an_alternative_that_overrides_edit_is_used_for_each_mask(black_box, examples):
    images, labels = examples
    recorder = Recorder(black_box, max_batch_size=5)
    attribute(Rise(samples=12, alternative=Crop()), recorder, images[:1], labels[:1])
    assert torch.cat(recorder.seen).shape == (12, 3, 16, 16)


def test_finds_planted_evidence(black_box):
    images, labels = black_box.examples(4, generator=Generator().manual_seed(0), size=24)
    mask = Rise(samples=600)(black_box, images, labels, generator=Generator().manual_seed(0))
    truth = black_box.evidence(images, labels)
    inside = (mask * truth).sum((1, 2, 3)) / truth.sum((1, 2, 3))
    assert (inside > 0.7).all()
    assert (mask.mean((1, 2, 3)) < 0.5).all()


def test_the_mask_is_the_positive_part_of_the_attributions_over_its_maximum(black_box, examples):
    output = attribute(Rise(samples=64), black_box, *examples)
    positive = output.attributions.clamp_min(0)
    assert torch.allclose(output.mask, positive / positive.amax((1, 2, 3), keepdim=True), atol=1e-6)


def test_a_constant_model_gets_an_empty_mask():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 4))
    torch.nn.init.zeros_(net[1].weight)
    images = torch.rand(2, 3, 8, 8, generator=Generator().manual_seed(0))
    output = attribute(Rise(samples=500), TorchBlackBox(net, size=8), images, torch.tensor([0, 3]))
    assert output.mask.max() < 0.1
    assert output.attributions.abs().max() < 1e-6


@pytest.mark.parametrize("alternative", [Constant(color="zero"), Noise(), Choice()], ids=repr)
@pytest.mark.parametrize("limit", [3, pytest.param(None, marks=pytest.mark.slow)])
def test_the_mask_of_an_image_does_not_depend_on_its_batch(examples, alternative, limit):
    images, labels = examples
    black_box, masker = (
        PlantedEvidence(max_batch_size=limit),
        Rise(samples=50, alternative=alternative),
    )
    batch = attribute(masker, black_box, images, labels)
    alone = [attribute(masker, black_box, images[i : i + 1], labels[i : i + 1]) for i in range(4)]
    assert torch.allclose(batch.attributions, torch.cat([a.attributions for a in alone]), atol=1e-5)
    assert torch.allclose(batch.mask, torch.cat([a.mask for a in alone]), atol=1e-5)
    assert torch.allclose(
        batch.mask.flip(0),
        attribute(masker, black_box, images.flip(0), labels.flip(0)).mask,
        atol=1e-5,
    )


def test_masks_depend_on_the_seed_and_the_image_but_not_on_max_batch(black_box, examples):
    images, labels = examples
    first = attribute(Rise(samples=50), black_box, images, labels).attributions
    assert torch.equal(first, attribute(Rise(samples=50), black_box, images, labels).attributions)
    assert not torch.allclose(
        first,
        attribute(Rise(samples=50), black_box, images, labels, seed=1).attributions,
        atol=1e-4,
    )
    assert torch.allclose(
        first,
        attribute(Rise(samples=50), PlantedEvidence(max_batch_size=7), images, labels).attributions,
        atol=1e-5,
    )


def test_more_samples_start_with_the_same_masks():
    few, _ = queried_masks(Rise(samples=10, alternative=Constant(color=0.0)), (8, 8))
    many, _ = queried_masks(Rise(samples=300, alternative=Constant(color=0.0)), (8, 8))
    assert torch.allclose(few, many[:10], atol=1e-6)


@pytest.mark.parametrize(
    ("samples", "limit", "largest"), [(300, None, 32), (300, 7, 7), (20, 50, 20), (100, 1000, 64)]
)
def test_a_query_only_black_box_is_queried_once_per_mask_in_batches_up_to_max_batch(
    samples, limit, largest
):
    black_box = Counting(QueryOnly(PlantedEvidence(max_batch_size=limit)))
    images, labels = black_box.black_box.black_box.examples(2, generator=Generator().manual_seed(0))
    Rise(samples=samples)(black_box, images, labels, generator=Generator())
    assert black_box.num_images == 2 * samples
    assert max(black_box.batch_sizes) == largest


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"samples": 1}, "samples=1"),
        ({"samples": 10.0}, "samples=10.0"),
        ({"grid_size": 0}, "grid_size=0"),
        ({"keep_prob": 1.0}, "keep_prob=1.0"),
        ({"keep_prob": float("nan")}, "keep_prob=nan"),
        ({"alternative": "blur"}, "takes Alternative, such as Constant"),
        ({"target_correlation": 1.0}, "target_correlation=1.0"),
        ({"sampling": "sobol"}, "'antithetic' or 'random'"),
        ({"estimate": "median"}, "'linear' or 'mean'"),
    ],
)
def test_bad_arguments_are_refused_at_once(wrong, says):
    with pytest.raises(InputError, match=says):
        Rise(**wrong)


def test_two_samples_are_enough_for_finite_numbers(black_box, examples):
    output = attribute(Rise(samples=2), black_box, *examples)
    assert torch.isfinite(output.attributions).all()
    assert torch.isfinite(output.standard_error).all()


def test_double_precision_stays(black_box):
    images, labels = black_box.examples(1, generator=Generator().manual_seed(0))
    assert (
        attribute(Rise(samples=16), black_box, images.double(), labels).attributions.dtype
        == torch.float64
    )


def test_memory_does_not_grow_with_the_samples():
    """Counts the tensors alive at the last query; peak memory of a process is no quick test."""

    def alive(samples):
        counts = []

        class Watching(Gray):
            queried = 0

            def logits(self, images):
                self.queried += len(images)
                if self.queried == samples:
                    counts.append(
                        sum(t.numel() for t in gc.get_objects() if type(t) is torch.Tensor)
                    )
                return super().logits(images)

        attribute(Rise(samples=samples), Watching(), torch.ones(1, 1, 32, 32), torch.tensor([0]))
        return counts[0]

    assert alive(2560) < 1.05 * alive(256)
