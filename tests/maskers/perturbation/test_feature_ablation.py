"""Feature ablation against Captum and a plain loop, and the regions it accepts."""

import numpy as np
import pytest
import torch
from torch import Generator, nn

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.constant import Constant
from saliencykit.alternatives.crop import Crop
from saliencykit.alternatives.noise import Noise
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.maskers.perturbation.feature_ablation import FeatureAblation
from saliencykit.testing.black_boxes import Counting, PlantedEvidence


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = [
            nn.Conv2d(3, 8, 3, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(),
        ]
        return nn.Sequential(*body, nn.Flatten(), nn.LazyLinear(5)).eval()


def superpixels(size, count, seed=0):
    """Voronoi cells of random points: any shape, any number."""
    points = torch.rand(count, 2, generator=Generator().manual_seed(seed)) * torch.tensor(size)
    places = torch.stack(
        torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij"), -1
    ).float()
    return torch.cdist(places.view(-1, 2), points).argmin(1).view(size) * 3 - 2


def attribute(masker, black_box, images, labels, seed=0):
    return masker.attribute(black_box, images, labels, generator=Generator().manual_seed(seed))


@pytest.mark.parametrize(("size", "count"), [((16, 16), 7), ((48, 40), 60), ((40, 57), 150)])
def test_equals_captums_feature_ablation(size, count):
    from captum.attr import FeatureAblation as Captums

    model, regions = network(), superpixels(size, count)
    images, labels = (
        torch.rand(2, 3, *size, generator=Generator().manual_seed(1)),
        torch.tensor([3, 0]),
    )
    with torch.no_grad():
        model(images)
        model, images = model.double(), images.double()  # differences of 1e-4 between probabilities
        theirs = Captums(lambda x: model(x).softmax(1)).attribute(
            images, baselines=0.25, target=labels, feature_mask=regions[None, None]
        )
    masker = FeatureAblation(regions=regions, alternative=Constant(color=0.25))
    ours = attribute(masker, TorchBlackBox(model, size=size), images, labels).attributions
    spread = theirs.max() - theirs.min()
    assert (ours - theirs).abs().max() < 1e-10 * spread
    assert spread > 1e-3


@pytest.mark.parametrize("alternative", [Constant(color="mean"), Blur(sigma=2.0), Crop()], ids=repr)
def test_a_grid_equals_a_plain_loop(alternative):
    black_box = PlantedEvidence(max_batch_size=5)
    images, labels = black_box.examples(2, generator=Generator().manual_seed(3), size=(11, 14))
    output = attribute(
        FeatureAblation(grid_size=(3, 4), alternative=alternative), black_box, images, labels
    )
    whole = black_box(images).softmax(1)
    for top, bottom in zip((0, 4, 8), (4, 8, 11), strict=True):
        for left, right in zip((0, 4, 7, 11), (4, 7, 11, 14), strict=True):
            mask = torch.ones(2, 1, 11, 14)
            mask[:, :, top:bottom, left:right] = 0
            drop = (
                whole - black_box(alternative.edit(images, mask, Generator())).softmax(1)
            ).gather(1, labels[:, None])[:, 0]
            assert torch.allclose(
                output.attributions[:, 0, top:bottom, left:right], drop[:, None, None], atol=1e-5
            )


def test_regions_may_be_one_map_per_image_or_one_for_all(black_box, examples):
    images, labels = examples
    maps = torch.stack([superpixels((16, 16), 9, seed) for seed in range(4)])[:, None]
    batch = attribute(FeatureAblation(regions=maps), black_box, images, labels).attributions
    alone = [
        attribute(
            FeatureAblation(regions=maps[i, 0].numpy()),
            black_box,
            images[i : i + 1],
            labels[i : i + 1],
        ).attributions
        for i in range(4)
    ]
    assert torch.allclose(batch, torch.cat(alone), atol=1e-6)
    shared = attribute(FeatureAblation(regions=maps[0, 0]), black_box, images, labels).attributions
    assert torch.allclose(shared[:1], batch[:1], atol=1e-6)
    assert not torch.allclose(shared[1:], batch[1:], atol=1e-3)


def test_attributions_are_constant_on_a_region_and_the_mask_is_their_positive_part(
    black_box, examples
):
    regions = superpixels((16, 16), 12)
    output = attribute(FeatureAblation(regions=regions), black_box, *examples)
    for name in regions.unique():
        assert output.attributions[:, 0][:, regions == name].std(1).max() < 1e-7
    positive = output.attributions.clamp_min(0)
    assert torch.allclose(output.mask, positive / positive.amax((1, 2, 3), keepdim=True), atol=1e-6)


def test_the_mask_of_an_image_does_not_depend_on_its_batch(black_box, examples):
    images, labels = examples
    masker = FeatureAblation(grid_size=4, alternative=Noise())
    batch = attribute(masker, black_box, images, labels).attributions
    alone = [
        attribute(masker, black_box, images[i : i + 1], labels[i : i + 1]).attributions
        for i in range(4)
    ]
    assert torch.allclose(batch, torch.cat(alone), atol=1e-5)


def test_one_query_per_region_and_one_for_the_image():
    black_box = Counting(PlantedEvidence(max_batch_size=10))
    images, labels = black_box.black_box.examples(3, generator=Generator().manual_seed(0))
    FeatureAblation(grid_size=4)(black_box, images, labels, generator=Generator())
    assert black_box.num_images == 3 * (16 + 1)


def test_a_grid_finer_than_the_image_has_one_cell_per_pixel():
    black_box = Counting(PlantedEvidence())
    images, labels = black_box.black_box.examples(
        1, generator=Generator().manual_seed(0), size=(4, 5)
    )
    FeatureAblation(grid_size=100)(black_box, images, labels, generator=Generator())
    assert black_box.num_images == 4 * 5 + 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"grid_size": 0}, "grid_size=0"),
        ({"grid_size": (2, 3, 4)}, "grid_size="),
        ({"grid_size": 2.5}, "grid_size=2.5"),
        ({"regions": torch.rand(4, 4)}, "expected integers"),
        (
            {"regions": torch.zeros(2, 3, 4, 4, dtype=torch.long)},
            r"got torch.int64 of shape \(2, 3, 4, 4\)",
        ),
        ({"regions": [[0, 1]]}, "got list"),
        ({"alternative": 0.5}, "takes Alternative, such as Constant"),
    ],
)
def test_bad_arguments_are_refused_at_once(wrong, says):
    with pytest.raises(InputError, match=says):
        FeatureAblation(**wrong)


def test_regions_that_do_not_fit_are_refused(black_box, examples):
    with pytest.raises(InputError, match=r"1 images of 8 x 8 and got 4 of 16 x 16"):
        FeatureAblation(regions=np.zeros((8, 8), dtype=int))(
            black_box, *examples, generator=Generator()
        )
    with pytest.raises(InputError, match="regions for 3 images"):
        FeatureAblation(regions=np.zeros((3, 1, 16, 16), dtype=int))(
            black_box, *examples, generator=Generator()
        )


def test_maskers_with_equal_regions_are_equal():
    one, same, other = (FeatureAblation(regions=superpixels((8, 8), count)) for count in (5, 5, 6))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != FeatureAblation()
    assert FeatureAblation() == FeatureAblation()
    assert FeatureAblation() != FeatureAblation(grid_size=3)
    assert FeatureAblation() != "feature-ablation"


def test_regions_of_a_large_image_need_few_full_passes(monkeypatch):
    from saliencykit.networks.incremental.window_logits import WindowLogits

    full_passes = []
    full = WindowLogits._full
    monkeypatch.setattr(
        WindowLogits,
        "_full",
        lambda self, filled, which: full_passes.extend(which) or full(self, filled, which),
    )
    model, image = network(), torch.rand(1, 3, 96, 96, generator=Generator().manual_seed(2))
    model(image)  # gives the lazy layer its shape
    black_box = TorchBlackBox(model, size=96)
    attribute(
        FeatureAblation(regions=superpixels((96, 96), 200)), black_box, image, torch.tensor([1])
    )
    assert 0 < len(full_passes) <= 4  # the ones that verify the incremental result
