"""The universal masker: what its network cannot do, whatever its weights, and what it reads."""

import copy
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.maskers import Cam, Rise, Universal
from saliencykit.maskers.universal.class_evidence import (
    cells_of,
    compared_layers,
    evened,
    read_evidence,
    relative_strength,
)
from saliencykit.maskers.universal.pixel_encoder import PixelEncoder
from saliencykit.maskers.universal.sharpening_network import (
    SharpeningNetwork,
    cell_similarity,
    squared_distances,
)
from saliencykit.maskers.universal.universal_masker import save_network
from saliencykit.registry import as_masker
from saliencykit.testing import PlantedEvidence, QueryOnly, small_network

GRIDS = ((7, 7), (3, 5), (14, 14), (1, 1))


@pytest.fixture(scope="module")
def network():
    """Of random weights, large ones: what holds here holds for any training."""
    torch.manual_seed(0)
    network = SharpeningNetwork().eval().requires_grad_(False)
    for value in network.parameters():
        value.add_(torch.randn_like(value) * 0.1)
    return network.double()


def inputs(grid, seed=0, size=(64, 48)):
    g = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 3, *size, generator=g, dtype=torch.float64)
    evidence = 2 * torch.rand(2, 1, *grid, generator=g, dtype=torch.float64) - 1
    maps = torch.randn(2, 6, 8, 6, generator=g, dtype=torch.float64)
    similarities = (cell_similarity(maps, grid), None)
    return images, evidence, similarities


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), grid=st.sampled_from(GRIDS))
def test_more_evidence_never_gives_less_of_a_mask(network, seed, grid):
    images, evidence, similarities = inputs(grid, seed)
    more = (evidence + torch.rand_like(evidence) ** 4).clamp(-1, 1)
    strength = torch.ones(2, 1, dtype=torch.float64)
    less, _ = network(images, evidence, strength, similarities)
    mask, _ = network(images, more, strength, similarities)
    assert (mask >= less - 1e-9).all()


@settings(max_examples=10, deadline=None)
@given(value=st.floats(-1, 1), grid=st.sampled_from(GRIDS))
def test_a_flat_map_gives_a_flat_mask_whatever_the_image_shows(network, value, grid):
    images, evidence, similarities = inputs(grid)
    images[:, :, 20:40] = 0  # edges
    flat = torch.full_like(evidence, value)
    _, scores = network(images, flat, torch.ones(2, 1, dtype=torch.float64), similarities)
    assert torch.allclose(scores, network.values(flat).mean().expand_as(scores), atol=1e-9)


def test_scores_are_between_the_values_of_the_cells(network):
    images, evidence, similarities = inputs((7, 7))
    _, scores = network(images, evidence, torch.ones(2, 1, dtype=torch.float64), similarities)
    values = network.values(evidence)
    assert (scores >= values.amin((2, 3), keepdim=True) - 1e-9).all()
    assert (scores <= values.amax((2, 3), keepdim=True) + 1e-9).all()


def test_a_class_that_the_classifier_hardly_sees_gets_a_smaller_mask(network):
    images, evidence, similarities = inputs((7, 7))
    masks = [
        network(images, evidence.abs(), torch.full((2, 1), r, dtype=torch.float64), similarities)[0]
        for r in (-1.0, 0.0, 0.3, 0.7, 1.0)
    ]
    for less, more in pairwise(masks):
        assert (less <= more + 1e-12).all()


def test_several_classes_of_an_image_get_the_masks_that_they_get_alone(network):
    images, evidence, similarities = inputs((7, 7))
    two = torch.cat([evidence, evidence.flip(2)], 1)
    strength = torch.tensor([[1.0, 0.5]] * 2, dtype=torch.float64)
    both, _ = network(images, two, strength, similarities)
    for k in range(2):
        alone, _ = network(images, two[:, k : k + 1], strength[:, k : k + 1], similarities)
        assert torch.allclose(both[:, k : k + 1], alone)


def test_images_of_any_linear_scale_have_the_same_features():
    torch.manual_seed(0)
    encoder, images = PixelEncoder().eval().double(), torch.rand(2, 3, 40, 56, dtype=torch.float64)
    scale = torch.tensor([2.0, 0.5, 4.0], dtype=torch.float64).view(1, 3, 1, 1)
    for one, other in zip(encoder(images), encoder(images * scale - 0.7), strict=True):
        assert torch.allclose(one, other, atol=1e-8)


def test_folded_norms_change_nothing():
    torch.manual_seed(0)
    encoder = PixelEncoder().double()
    encoder(torch.rand(4, 3, 64, 64, dtype=torch.float64))  # statistics
    encoder.eval()
    folded, images = copy.deepcopy(encoder), torch.rand(2, 3, 64, 64, dtype=torch.float64)
    folded.fold()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    for one, other in zip(encoder(images), folded(images), strict=True):
        assert torch.allclose(one, other, atol=1e-8)


def test_distances_and_similarities_are_those_of_a_slow_loop():
    size, grid, shift = (4, 6), (2, 3), (0.5, -1.0)
    distances = squared_distances(size, grid, shift).view(*size, *grid)
    maps = torch.randn(1, 5, *size)
    cosines = cell_similarity(maps, grid).view(*grid, *size)
    centered = maps[0] - maps[0].mean((1, 2), keepdim=True)
    for y in range(4):
        for x in range(6):
            for v in range(2):
                for u in range(3):
                    down, right = (y + 0.5 - 0.5) / 2 - (v + 0.5), (x + 0.5 + 1) / 2 - (u + 0.5)
                    assert distances[y, x, v, u] == pytest.approx(down**2 + right**2, abs=1e-5)
                    cell = centered[:, 2 * v : 2 * v + 2, 2 * u : 2 * u + 2].mean((1, 2))
                    cosine = F.cosine_similarity(cell, centered[:, y, x], dim=0)
                    assert cosines[v, u, y, x] == pytest.approx(float(cosine), abs=1e-5)


def test_evidence_with_a_pooled_head_is_that_of_cam():
    black_box = TorchBlackBox(_pooled(), size=32)
    images, labels = torch.rand(3, 3, 32, 32), torch.tensor([0, 1, 2])
    known = read_evidence(black_box, images)
    cam = Cam().mask(black_box, images, labels, torch.Generator()).attributions
    every = [Cam().mask(black_box, images, labels * 0 + k, torch.Generator()) for k in range(4)]
    expected = cam - torch.stack([each.attributions for each in every]).mean(0)
    expected = evened((expected / expected.amax((1, 2, 3), keepdim=True)).clamp(-1, 1))
    assert (known.of(labels[:, None]) - expected).abs().mean() < 1e-4
    assert torch.allclose(known.logits, black_box(images), atol=1e-5)


def test_the_contrast_of_peaked_and_flat_maps_is_evened():
    g = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 2, 7, 7, generator=g) ** torch.tensor([0.5, 3.0]).view(2, 1, 1, 1)
    maps[..., 0] *= -1
    maps = maps / maps.amax((2, 3), keepdim=True)
    maps = maps.clamp_min(-1)
    even = evened(maps)
    before, after = (each.clamp_min(0).mean((2, 3)) for each in (maps, even))
    assert torch.allclose(after, (0.35 * before).sqrt(), atol=1e-3)
    assert torch.equal(maps.flatten(2).argsort(2), even.flatten(2).argsort(2))
    flat = torch.ones(1, 1, 5, 5)
    assert torch.equal(evened(flat), flat)


@pytest.mark.parametrize("output", ["softmax", "sigmoid", "score"])
def test_the_top_class_has_full_strength(output):
    logits = torch.tensor([[2.0, 1.0, -3.0], [0.0, 5.0, 4.0]])
    strength = relative_strength(logits, torch.tensor([[0, 1, 2], [1, 2, 0]]), output)
    assert (strength[:, 0] > 0.98).all()
    assert (strength[:, :-1] >= strength[:, 1:] - 1e-6).all()
    assert (strength.abs() <= 1).all()


def test_layers_at_an_eighth_and_a_sixteenth_are_compared():
    layers = [nn.Sequential(nn.Conv2d(3 if i == 0 else 8, 8, 3, 2, 1), nn.ReLU()) for i in range(5)]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    found = compared_layers(TorchBlackBox(net.eval(), size=96), torch.rand(1, 3, 96, 96))
    assert [layer.side for layer in found] == [(12, 12), (6, 6)]
    assert compared_layers(TorchBlackBox(_pooled(), size=32), torch.rand(1, 3, 32, 32))[0] is None


@pytest.mark.parametrize("size", [(32, 32), (80, 64), (160, 200), (384, 256)])
def test_images_of_any_size_get_masks(size, weights):
    black_box = TorchBlackBox(_pooled(), size=size)
    images = torch.rand(2, 3, *size)
    output = Universal(network=weights).mask(
        black_box, images, torch.tensor([0, 1]), torch.Generator()
    )
    assert output.mask.shape[2] <= size[0]
    assert output.mask.shape[2] >= min(size[0] // 4, 32)
    assert cells_of((24, 6)) == (14, 6)


def test_one_pass_gives_the_mask_and_the_logits_with_one_query(weights):
    black_box, masker = TorchBlackBox(_pooled(), size=32), Universal(network=weights)
    images, labels = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
    masker.mask(black_box, images, labels, torch.Generator())  # the head is found
    counted = _Counting(black_box.module)
    one, logits = masker.predict_masker(TorchBlackBox(counted, size=32), images)
    before = counted.calls
    mask = one(black_box, images, labels, generator=torch.Generator())
    assert counted.calls == before
    assert torch.allclose(logits, black_box(images), atol=1e-5)
    alone = masker(black_box, images, labels, generator=torch.Generator())
    assert (mask - alone).abs().mean() < 1e-5


def test_a_model_that_decides_by_color_gets_no_edges(weights):
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    net = nn.Sequential(nn.AvgPool2d(8), nn.Identity(), *head)
    with torch.no_grad():
        net[-1].weight.copy_(torch.eye(3))
        net[-1].bias.zero_()
    image = torch.full((1, 3, 64, 64), 0.3)
    image[:, 0] = 0.8  # what class 0 is told by, everywhere
    image[:, 2, :, 24:40] = torch.tensor([0.0, 0.6]).repeat_interleave(2).repeat(4)  # stripes
    given = (TorchBlackBox(net.eval(), size=64), image, torch.tensor([0]), torch.Generator())
    assert Universal(network=weights).mask(*given).mask.std() < 1e-4


def test_a_black_box_that_only_answers_gets_the_evidence_of_rise(weights):
    black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
    images, labels = black_box.examples(2, generator=g)
    masks = [
        masker(QueryOnly(black_box), images, labels, generator=torch.Generator().manual_seed(1))
        for masker in (
            Universal(network=weights),
            Universal(network=weights, evidence=Rise(samples=64)),
            Rise(samples=64, sharpen=Universal(network=weights)),
        )
    ]
    assert (masks[0] - masks[1]).abs().mean() < 1e-6
    assert (masks[0] - masks[2]).abs().mean() < 1e-6
    assert masks[0].std() > 0


def test_rise_is_sharpened_by_the_masker_of_a_text(weights):
    masker = as_masker(f"rise:samples=64,sharpen=(universal:network={weights})")
    assert masker == Rise(samples=64, sharpen=Universal(network=str(weights)))
    images = torch.rand(1, 3, 8, 8)
    assert masker.evaluations(PlantedEvidence(), images) == 65
    with pytest.raises(InputError, match="evidence"):
        as_masker("rise:sharpen=cam")


def test_a_head_that_is_not_linear_gets_the_evidence_of_grad_cam(weights):
    black_box: BlackBox = TorchBlackBox(small_network().eval(), size=16)
    masker = Universal(network=weights)
    mask = masker(
        black_box, torch.rand(2, 3, 16, 16), torch.tensor([0, 3]), generator=torch.Generator()
    )
    assert mask.shape == (2, 1, 16, 16)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("universal") / "random.safetensors"
    save_network(path, SharpeningNetwork(), {"steps": 0})
    return path


def _pooled():
    torch.manual_seed(0)
    convolutions = (nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
    return nn.Sequential(
        *convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    ).eval()


class _Counting(nn.Module):
    """A model that counts its calls."""

    def __init__(self, module):
        super().__init__()
        self.module, self.calls = module, 0

    def forward(self, x):
        self.calls += 1
        return self.module(x)
