import pytest
import torch

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.noise import Noise
from saliencykit.core.errors import InputError
from saliencykit.data.training_images import TrainingImages
from saliencykit.maskers.realtime.encoder import StandaloneEncoder
from saliencykit.maskers.realtime.masking_network import masking_network
from saliencykit.networks.layer_activations import read_feature_maps
from saliencykit.networks.split_layer import choose_split_layer
from saliencykit.testing.black_boxes import Counting, PlantedEvidence
from saliencykit.testing.unchanged import untouched
from saliencykit.training.cache import FILLS, bytes_per_view, fill_cache, make_views, maps_until


@pytest.fixture
def photos():
    g = torch.Generator().manual_seed(0)
    small = torch.rand(6, 3, 8, 8, generator=g)
    large = torch.nn.functional.interpolate(small, size=(32, 32), mode="bilinear")
    return TrainingImages((large * 255).round().to(torch.uint8), torch.tensor([0, 1, 2, 3, 0, 1]))


@pytest.fixture
def unlabeled(photos):
    return TrainingImages(photos.pixels, None)


# views


def test_whole_photos_first_then_crops(photos):
    views = make_views(photos, views=3, most=100, seed=0)
    assert len(views) == 18
    assert views.view.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert all(sorted(views.source[n : n + 6].tolist()) == list(range(6)) for n in (0, 6, 12))
    assert torch.equal(views.images(torch.arange(6)), photos.images(views.source[:6]))


def test_at_most_so_many(photos):
    views = make_views(photos, views=3, most=8, seed=0)
    assert views.view.tolist() == [0] * 6 + [1] * 2


def test_views_are_the_same_each_time(photos):
    views = make_views(photos, views=3, most=100, seed=0)
    index = torch.tensor([7, 12, 3])
    state = torch.get_rng_state()
    images = views.images(index)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(images, views.images(index))
    assert torch.equal(images[1:2], views.images(index[1:2]))
    assert torch.equal(images, make_views(photos, views=3, most=100, seed=0).images(index))
    assert not torch.equal(
        images[:2], make_views(photos, views=3, most=100, seed=1).images(index)[:2]
    )


def test_crops_are_views_of_their_photo(photos):
    views = make_views(photos, views=30, most=1000, seed=0)
    images = views.images(torch.arange(len(views)))
    assert images.shape == (180, 3, 32, 32)
    assert 0 <= images.min() <= images.max() <= 1
    whole = photos.images(views.source)
    assert (images.mean((1, 2, 3)) - whole.mean((1, 2, 3))).abs().mean() < 0.05
    assert len({tuple(image.flatten()[:40].tolist()) for image in images}) > 170


# the cache


def test_maps_and_labels_of_every_view(trunk_black_box, photos, unlabeled):
    black_box = trunk_black_box()
    network = masking_network(black_box, photos.images(torch.arange(4)))
    views = make_views(photos, views=2, most=100, seed=0)
    with untouched("fill_cache", black_box.model):
        cache = fill_cache(views, black_box, network.encoder, None, Blur())
    assert len(cache.labels) == len(views) == 12
    assert cache.mixing is None
    assert torch.equal(cache.labels, photos.labels[views.source])
    index = torch.tensor([9, 1])
    wanted = network.encoder.encode(black_box, views.images(index)).maps
    features = cache.features(index, torch.device("cpu"))
    assert features.size == (32, 32)
    for got, want in zip(features.maps, wanted, strict=True):
        assert got.dtype == torch.float32
        assert torch.allclose(got, want, atol=2e-3 * float(want.detach().abs().max()))
    own = fill_cache(
        make_views(unlabeled, views=2, most=100, seed=0),
        black_box,
        network.encoder,
        None,
        Blur(),
    )
    assert torch.equal(own.labels, black_box(views.images(torch.arange(12))).argmax(1))


def test_an_encoder_that_is_trained_is_not_kept(trunk_black_box, photos):
    black_box = trunk_black_box()
    own = StandaloneEncoder(widths=(4, 6), depth=1)
    cache = fill_cache(make_views(photos, views=1, most=100, seed=0), black_box, own, None, Blur())
    assert cache.maps == ()
    assert cache.features(torch.tensor([0]), torch.device("cpu")) is None


def test_the_fills_are_independent_and_of_the_alternative(trunk_black_box, photos):
    black_box = trunk_black_box()
    partial_network = choose_split_layer(black_box, photos.images(torch.arange(2)))
    views = make_views(photos, views=1, most=100, seed=3)
    cache = fill_cache(
        views,
        black_box,
        StandaloneEncoder(widths=(4,), depth=1),
        partial_network.feature_map,
        Noise(),
    )
    assert cache.mixing.shape == (
        6,
        1 + FILLS,
        partial_network.feature_map.channels,
        *partial_network.feature_map.side,
    )
    with torch.no_grad():
        own = read_feature_maps(
            black_box, views.images(torch.arange(6)), [partial_network.feature_map]
        )[1][0]
    assert torch.allclose(cache.mixing[:, 0].float(), own, atol=5e-3 * float(own.abs().max()))
    assert all((cache.mixing[row, 1] - cache.mixing[row, 2]).abs().max() > 0.01 for row in range(6))
    again = fill_cache(
        views,
        black_box,
        StandaloneEncoder(widths=(4,), depth=1),
        partial_network.feature_map,
        Noise(),
    )
    assert torch.equal(cache.mixing, again.mixing)


def test_large_values_stay_finite_in_half_precision(trunk_black_box, photos):
    black_box = trunk_black_box()
    with torch.no_grad():
        black_box.model.stages[1][1].weight.mul_(1e6)
    network = masking_network(black_box, photos.images(torch.arange(4)))
    cache = fill_cache(
        make_views(photos, views=1, most=100, seed=0),
        black_box,
        network.encoder,
        None,
        Blur(),
    )
    assert all(torch.isfinite(maps).all() for maps in cache.maps)


def test_until_a_layer_and_no_further(trunk_black_box, photos):
    black_box, images = trunk_black_box(max_batch_size=4), photos.images(torch.arange(6))
    feature_map = choose_split_layer(black_box, images).feature_map
    ran = []
    black_box.model.fc.register_forward_pre_hook(lambda module, given: ran.append(1))
    with torch.no_grad():
        maps = maps_until(black_box, images, feature_map)
        assert ran == []
        assert torch.allclose(maps, read_feature_maps(black_box, images, [feature_map])[1][0])
    assert len(black_box.model.get_submodule(feature_map.name)._forward_hooks) == 0


def test_until_a_layer_of_a_model_that_raises(trunk_black_box, photos):
    black_box, images = trunk_black_box(), photos.images(torch.arange(2))
    feature_map = choose_split_layer(black_box, images).feature_map
    black_box.model.train()
    with untouched("maps_until", black_box.model), pytest.raises(InputError):
        maps_until(black_box, images[:, :2], feature_map)


def test_memory_of_a_view(trunk_black_box, photos):
    black_box = trunk_black_box()
    images = photos.images(torch.arange(4))
    encoder, feature_map = (
        masking_network(black_box, images).encoder,
        choose_split_layer(black_box, images).feature_map,
    )
    cache = fill_cache(
        make_views(photos, views=1, most=100, seed=0),
        black_box,
        encoder,
        feature_map,
        Blur(),
    )
    tensors = [*cache.maps, cache.mixing]
    assert bytes_per_view(encoder, feature_map) == sum(
        t[0].numel() * t.element_size() for t in tensors
    )
    assert bytes_per_view(StandaloneEncoder(), None) == 0


def test_the_box_is_queried_once_about_a_view(photos):
    black_box = Counting(PlantedEvidence())
    fill_cache(
        make_views(photos, views=2, most=100, seed=0),
        black_box,
        StandaloneEncoder(),
        None,
        Blur(),
    )
    assert black_box.num_images == 12
