import torch

from saliencykit.data.training_images import TrainingImages
from saliencykit.maskers.realtime.masking_network import masking_network
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.training.cache import fill_cache, make_views
from saliencykit.training.pastes import Layouts, Pastes, make_layouts, make_pastes
from tests.helpers import seeded


def pasted(top, left, bottom, right):
    """View 1 on view 0."""
    whole = [0.0, 0.0, 1.0, 1.0]
    places = torch.tensor([[whole, [top, left, bottom, right], whole, whole]])
    return Layouts(torch.tensor([[0, 1, -1, -1]]), places)


def test_a_pasted_image_covers_what_is_below_it():
    tiles = torch.stack([torch.full((1, 8, 8), value) for value in (0.2, 0.9, 0.0, 0.0)])[None]
    image = pasted(0.25, 0.5, 0.75, 1.0).compose(tiles, (8, 8))
    expected = torch.full((8, 8), 0.2)
    expected[2:6, 4:8] = 0.9
    assert torch.allclose(image[0, 0], expected)


def test_layouts_are_pastes_and_mosaics_inside_the_image():
    layouts = make_layouts(torch.arange(5, 20), 400, seeded())
    mosaics = (layouts.views >= 0).all(1)
    assert 60 < mosaics.sum() < 140
    assert (layouts.places >= 0).all()
    assert (layouts.places <= 1).all()
    used = layouts.views[layouts.views >= 0]
    assert used.min() >= 5
    assert used.max() < 20
    sides = layouts.places[~mosaics, 1, 2] - layouts.places[~mosaics, 1, 0]
    assert sides.min() >= 0.3
    assert sides.max() <= 0.7
    quarters = layouts.places[mosaics][0]
    assert ((quarters[:, 2:] - quarters[:, :2]) == 0.5).all()


def test_the_target_of_a_row_is_the_mask_of_its_view_scaled_down():
    masks = torch.zeros(2, 1, 8, 8)
    masks[0, :, :, :] = 1.0  # of the background: all of it but what the paste covers
    masks[1, :, :4, :] = 1.0  # of the paste: its upper half
    layouts = pasted(0.5, 0.0, 1.0, 0.5)
    pastes = Pastes(layouts, (), torch.tensor([0, 0]), torch.tensor([7, 3]), (8, 8))
    behind, above = pastes.targets(torch.tensor([0, 1]), masks, torch.tensor([7, 3]))[:, 0]
    expected = torch.ones(8, 8)
    expected[4:, :4] = 0
    assert torch.equal(behind, expected)
    assert above[:4].sum() == 0
    assert above[:, 4:].sum() == 0
    assert (above[4, :4] > 0.7).all()
    assert (above[7, :4] < 0.3).all()


def test_two_views_of_one_class_are_one_target():
    pastes = Pastes(pasted(0.5, 0, 1, 0.5), (), torch.tensor([0]), torch.tensor([7]), (8, 8))
    target = pastes.targets(torch.tensor([0]), torch.ones(2, 1, 8, 8), torch.tensor([7, 7]))
    assert torch.equal(target, torch.ones(1, 1, 8, 8))


def cache_of(black_box, images, labels, network):
    photos = TrainingImages((images * 255).round().to(torch.uint8), labels)
    views = make_views(photos, views=2, most=100, seed=0)
    return fill_cache(views, black_box, network.encoder, None, alternative=None)


def test_only_classes_that_the_model_still_sees_are_learned_from(trunk_black_box):
    black_box = trunk_black_box()
    images, labels = PlantedEvidence().examples(12, generator=seeded(), size=32)
    network = masking_network(black_box, images, labels)
    cache = cache_of(black_box, images, None, network)
    pastes = make_pastes(cache, black_box, network.encoder, count=10, seed=0)
    assert pastes is not None
    assert 0 < len(pastes) <= 40
    assert (cache.views.view[pastes.layouts.views.clamp_min(0)] == 0).all()
    tiles = cache.views.images(pastes.layouts.views.clamp_min(0).flatten()).view(-1, 4, 3, 32, 32)
    composed = pastes.layouts.compose(tiles, (32, 32)).clamp(0, 1)
    p = black_box(composed).softmax(1)
    assert (p[pastes.image, pastes.label] >= 0.25 - 1e-4).all()
    features = pastes.features(torch.arange(len(pastes)), torch.device("cpu"))
    direct = network.encoder.encode(black_box, composed[pastes.image])
    for cached, own in zip(features.maps, direct.maps, strict=True):
        assert torch.allclose(cached, own, atol=1e-2, rtol=1e-2)


def test_where_no_class_is_recognized_there_are_no_pastes(trunk_black_box, monkeypatch):
    black_box = trunk_black_box()
    images, labels = PlantedEvidence().examples(8, generator=seeded(), size=32)
    network = masking_network(black_box, images, labels)
    cache = cache_of(black_box, images, None, network)
    monkeypatch.setattr("saliencykit.training.pastes._SEEN", 2.0)
    assert make_pastes(cache, black_box, network.encoder, count=4, seed=0) is None
