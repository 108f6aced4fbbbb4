import pytest
import torch
from torch import nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.networks.feature_maps import read_taps
from saliencykit.networks.split_layer import Rest, find_rest
from saliencykit.testing.unchanged import untouched
from saliencykit.training.cache import maps_until

SIZE = (3, 32, 32)


def pictures(n=4, seed=0, side=32):
    small = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(small, size=(side, side), mode="bilinear")


def maps_of(box, images, tap):
    return read_taps(box, images, [tap])[1][0]


def test_own_features_give_the_boxs_logits(trunk_box):
    box, images = trunk_box(), pictures()
    rest = find_rest(box, images)
    assert isinstance(rest, Rest)
    with torch.no_grad():
        assert torch.allclose(rest(maps_of(box, images, rest.tap), SIZE), box(images), atol=1e-5)
        for count in (1, 3):
            assert torch.allclose(
                rest(maps_of(box, images[:count], rest.tap), SIZE), box(images[:count]), atol=1e-5
            )


def test_the_cut_is_not_at_the_end(trunk_box):
    box, images = trunk_box(), pictures()
    rest = find_rest(box, images)
    assert rest.tap.side[0] >= 8
    assert not rest.tap.name.startswith(("more", "fc"))


def test_gradients_are_those_of_mixing_at_that_layer_with_a_plain_hook(trunk_box):
    box, images, others = trunk_box(), pictures(), pictures(seed=1)
    rest = find_rest(box, images)
    mask = torch.rand(
        4, 1, *rest.tap.side, generator=torch.Generator().manual_seed(2)
    ).requires_grad_()
    with torch.no_grad():
        one, other = maps_of(box, images, rest.tap), maps_of(box, others, rest.tap)
    logits = rest(one * mask + other * (1 - mask), SIZE)
    grad = torch.autograd.grad(logits.square().sum(), mask)[0]

    def mix(module, given, output):
        return one * mask + other * (1 - mask)

    handle = box.model.get_submodule(rest.tap.name).register_forward_hook(mix)
    slow = box(images)
    slow_grad = torch.autograd.grad(slow.square().sum(), mask)[0]
    handle.remove()
    assert torch.allclose(logits, slow, atol=1e-5)
    assert torch.allclose(grad, slow_grad, atol=1e-4)
    assert grad.abs().sum() > 0


def test_layers_before_it_do_not_run(trunk_box):
    box, images = trunk_box(), pictures()
    rest = find_rest(box, images)
    inner = rest.box.module.stages[0][0]
    assert isinstance(inner, nn.Conv2d)
    inner.weight.data.fill_(float("nan"))
    assert torch.isfinite(rest(maps_of(box, images, rest.tap), SIZE)).all()


def test_a_box_that_splits_its_batch(trunk_box):
    images = pictures(5)
    for most in (1, 2):
        box = trunk_box(max_batch=most)
        rest = find_rest(box, images)
        with torch.no_grad():
            assert torch.allclose(
                rest(maps_of(box, images, rest.tap), SIZE), box(images), atol=1e-5
            )


def test_the_model_comes_back_as_it_was(trunk_box):
    box, images = trunk_box(), pictures()
    box.model.train()
    with untouched("find_rest", box.model, images=images):
        rest = find_rest(box, images)
        rest(maps_of(box, images, rest.tap), SIZE)
        maps_until(box.for_many(images), images, rest.tap)


def test_the_maps_that_are_cached_are_those_that_it_takes(trunk_box):
    box, images = trunk_box(), pictures()
    rest, many = find_rest(box, images), box.for_many(images)
    with torch.no_grad():
        maps = maps_until(many, images, rest.tap)
        assert torch.allclose(rest(maps, SIZE), box(images), atol=1e-4)


def test_where_there_is_no_place_to_cut():
    class Dense(nn.Module):
        """Its end reads the pixels again."""

        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 1)
            self.last = nn.Linear(4 + 3, 3)

        def forward(self, x):
            y = self.second(self.first(x).relu())
            return self.last(torch.cat([y.mean((2, 3)), x.mean((2, 3))], 1))

    images = pictures()
    assert find_rest(TorchBlackBox(Dense()), images) is None
    assert (
        find_rest(TorchBlackBox(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))), images)
        is None
    )


def test_a_model_that_cannot_be_copied(trunk_box):
    box, images = trunk_box(), pictures()
    box.model.lock = (item for item in ())  # generators cannot be copied
    assert find_rest(box, images) is None


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_models_of_timm(name):
    timm = pytest.importorskip("timm")
    from saliencykit.black_boxes.timm import wrap_timm

    with torch.random.fork_rng():
        torch.manual_seed(0)
        box = wrap_timm(timm.create_model(name, num_classes=7))
    side = box.input_size[0]
    images = pictures(3, side=side)
    with untouched("find_rest", box.model, images=images):
        rest = find_rest(box, images)
    assert rest is not None
    with torch.no_grad():
        got, wanted = rest(maps_of(box, images, rest.tap), (3, side, side)), box(images)
    close = (
        1e-4 if rest.tap.layout != "tokens" else 0.2
    )  # tokens before the grid are the mean of those seen
    assert (got - wanted).abs().max() < close * max(1.0, float(wanted.abs().max()))
