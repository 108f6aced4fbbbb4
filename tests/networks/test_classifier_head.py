from dataclasses import replace

import pytest
import torch
from torch import nn

from saliencykit.black_boxes.timm import wrap_timm
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.networks import head_linearization as module
from saliencykit.networks.classifier_head import (
    class_weights,
    find_classifier_head,
    pooled_classifier_head,
)
from saliencykit.networks.head_linearization import linearize
from saliencykit.networks.layer_activations import read_feature_maps
from saliencykit.networks.map_layout import feature_maps_in
from saliencykit.networks.module_calls import record_calls
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.testing.unchanged import untouched

EXACT = {
    "convolutional": "fc",
    "pointwise": "fc",
    "squeezed": "final",
    "channels-last": "head",
    "mean-token": "head",
}


def layer_of(black_box, name):
    return black_box.model.get_submodule(name)


def mean_responses(black_box, head, images):
    _, (maps,) = read_feature_maps(black_box, images, [head.feature_map])
    found = torch.einsum("bchw,kc->bkhw", maps, head.weight) + head.bias[:, None, None]
    return found.mean((2, 3))


@pytest.mark.parametrize(("name", "layer"), EXACT.items())
def test_exact_rows_are_the_layers_weights(net, photos, name, layer):
    black_box = net(name)
    head = find_classifier_head(black_box, photos(3))
    assert head.exact
    assert head.layer == layer
    assert torch.equal(head.weight, layer_of(black_box, layer).weight.detach().flatten(1))
    assert torch.equal(head.bias, layer_of(black_box, layer).bias.detach())


@pytest.mark.parametrize("name", EXACT)
def test_with_exact_rows_the_mean_response_is_the_logit(net, photos, name):
    black_box, images = net(name), photos(5, seed=7)
    head = find_classifier_head(black_box, photos(3))
    assert torch.allclose(mean_responses(black_box, head, images), black_box(images), atol=1e-4)


@pytest.mark.parametrize("name", EXACT)
def test_a_pooled_head_is_the_exact_one_and_its_weights_are_read_anew(net, photos, name):
    black_box, images = net(name), photos(2)
    wanted, found = (
        find_classifier_head(black_box, images),
        pooled_classifier_head(black_box, images),
    )
    assert replace(found.feature_map, offset=(0, 0)) == replace(wanted.feature_map, offset=(0, 0))
    assert found.layer == wanted.layer
    assert torch.equal(found.weight, wanted.weight)
    with torch.no_grad():
        layer_of(black_box, found.layer).bias += 1
    assert torch.equal(pooled_classifier_head(black_box, images).bias, wanted.bias + 1)


def test_other_heads_are_no_pooled_ones(photos):
    flat = nn.Sequential(nn.Conv2d(3, 4, 3, 4), nn.Flatten(), nn.LazyLinear(5))
    black_box = TorchBlackBox(flat, size=photos(1).shape[-1])
    flat(photos(1))
    assert pooled_classifier_head(black_box, photos(1)) is None


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_any_number_of_images_finds_the_same_exact_head(net, photos, count):
    assert torch.equal(
        find_classifier_head(net("convolutional"), photos(count)).weight,
        find_classifier_head(net("convolutional"), photos(3)).weight,
    )


def test_only_a_few_images_are_recorded(net, photos):
    black_box, queried = net("convolutional"), []
    handle = black_box.model.register_forward_pre_hook(
        lambda module, given: queried.append(len(given[0]))
    )
    find_classifier_head(black_box, photos(40))
    handle.remove()
    assert max(queried) <= 4  # the outputs of every layer are held for them


@pytest.mark.parametrize("name", ["convolutional", "channels-last", "mean-token"])
def test_linearized_rows_equal_the_exact_ones_where_both_exist(net, photos, name):
    black_box, images = net(name), photos(4)
    exact = find_classifier_head(black_box, images)
    with torch.no_grad():
        _, calls = record_calls(black_box, images)
    feature_map, weight, bias = linearize(black_box, images, [exact.feature_map], calls)
    assert feature_map == exact.feature_map
    assert torch.allclose(weight, exact.weight, atol=1e-5)
    assert torch.allclose(bias, exact.bias, atol=1e-4)


def test_linearized_rows_of_a_flattened_head_are_gradients(net, photos):
    black_box, images = net("flattened"), photos(4)
    head = find_classifier_head(black_box, images)
    assert head.layer is None
    assert head.feature_map.name in ("pool", "stages", "stages.1")
    slow = torch.zeros_like(head.weight)
    for image in images:  # the mean over images of the gradient summed over positions
        (maps,) = read_feature_maps(black_box, image[None], [head.feature_map])[1]
        leaf = maps.detach().requires_grad_()
        after = (
            black_box.model.classifier(leaf.flatten(1)) if head.feature_map.name == "pool" else None
        )
        if after is None:
            after = black_box.model.classifier(black_box.model.pool(leaf).flatten(1))
        for row in range(len(slow)):
            slow[row] += torch.autograd.grad(after[0, row], leaf, retain_graph=True)[0].sum(
                (0, 2, 3)
            ) / len(images)
    assert torch.allclose(head.weight, slow, atol=1e-5)


def test_linearized_rows_of_a_black_box_that_splits_its_batch(net, photos):
    one, many = (
        find_classifier_head(net("flattened", max_batch_size=1), photos(1)),
        find_classifier_head(net("flattened"), photos(1)),
    )
    assert torch.allclose(one.weight, many.weight, atol=1e-5)
    assert not find_classifier_head(net("flattened", max_batch_size=1), photos(6)).exact


def test_with_a_class_token_the_rows_are_the_heads_but_not_exact(net, photos):
    black_box = net("class-token")
    head = find_classifier_head(black_box, photos(3))
    assert not head.exact
    assert head.feature_map.prefix == 1
    assert torch.equal(head.weight, black_box.model.head.weight.detach())


def test_where_it_would_take_too_long_rows_are_random_and_the_same_each_time(
    net, photos, monkeypatch
):
    monkeypatch.setattr(module, "_MAX_LINEARIZED", 10)
    black_box = net("flattened")
    head, again = (
        find_classifier_head(black_box, photos(3)),
        find_classifier_head(black_box, photos(4, seed=2)),
    )
    assert not head.exact
    assert torch.equal(head.weight, again.weight)
    assert head.weight.std() > 0
    assert not head.bias.any()


@pytest.mark.parametrize("name", [*EXACT, "class-token", "flattened"])
def test_the_model_comes_back_as_it_was(net, photos, name):
    black_box, images = net(name), photos(3)
    black_box.model.train()
    next(black_box.model.parameters()).requires_grad_(False)
    with untouched("find_classifier_head", black_box.model, images=images):
        find_classifier_head(black_box, images)
        with torch.inference_mode(False), torch.no_grad():
            find_classifier_head(black_box, images)


def test_also_where_the_model_raises_in_the_middle(net, photos):
    black_box = net("flattened")

    class Raising(nn.Module):
        calls = 0

        def forward(self, x):
            Raising.calls += 1
            if Raising.calls > 1:
                raise RuntimeError("out of luck")
            return x

    black_box.model.classifier.append(Raising())  # the second call is the one that is linearized
    with (
        untouched("find_classifier_head", black_box.model),
        pytest.raises(InputError, match="out of luck"),
    ):
        find_classifier_head(black_box, photos(3))


def test_a_black_box_without_a_map_is_told_what_to_write(photos):
    black_box = TorchBlackBox(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4)))
    with pytest.raises(
        InputError,
        match=r"none of the 2 layers of Sequential has a spatial feature map.* encoder='own'",
    ):
        find_classifier_head(black_box, photos(3))


def test_a_black_box_without_a_module_is_told_what_to_write():
    with pytest.raises(InputError, match="does not expose a torch module"):
        find_classifier_head(PlantedEvidence(), torch.rand(2, 3, 16, 16))


def test_rows_by_name(net):
    black_box = net("squeezed")
    weight, bias = class_weights(black_box.model, "final")
    assert weight.shape == (5, 16)
    assert torch.equal(bias, black_box.model.final.bias.detach())
    weight.zero_()
    assert black_box.model.final.weight.any(), "copies"
    without = nn.ModuleDict({"head": nn.Linear(3, 2, bias=False)})
    assert class_weights(without, "head")[1].tolist() == [0.0, 0.0]
    with pytest.raises(InputError, match="has no weights"):
        class_weights(nn.ModuleDict({"head": nn.Flatten()}), "head")


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("test_resnet", "fc"),
        pytest.param("test_efficientnet", "classifier", marks=pytest.mark.slow),
        ("test_vit", None),
        pytest.param("test_convnext", None, marks=pytest.mark.slow),
    ],
)
def test_models_of_timm(name, layer):
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        black_box = wrap_timm(timm.create_model(name, num_classes=7))
    images = torch.rand(3, 3, *black_box.input_size, generator=torch.Generator().manual_seed(0))
    with untouched("find_classifier_head", black_box.model, images=images):
        head = find_classifier_head(black_box, images)
    assert head.layer == layer
    assert head.weight.shape == (7, head.feature_map.channels)
    if layer is not None:
        assert torch.equal(head.weight, layer_of(black_box, layer).weight.detach())
        assert torch.allclose(mean_responses(black_box, head, images), black_box(images), atol=1e-4)


def test_a_swin_of_timm_is_exact():
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(
            "swin_tiny_patch4_window7_224",
            num_classes=7,
            img_size=64,
            window_size=4,
            embed_dim=12,
            depths=(1, 1),
            num_heads=(1, 2),
        )
    black_box = wrap_timm(model)
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    head = find_classifier_head(black_box, images)
    assert (head.layer, head.feature_map.layout) == ("head.fc", "last")
    assert torch.allclose(mean_responses(black_box, head, images), black_box(images), atol=1e-4)


def test_the_head_s_feature_map_is_a_map_of_the_image(net, photos):
    images = photos(3)
    for name in (*EXACT, "class-token", "flattened"):
        black_box = net(name)
        head = find_classifier_head(black_box, images)
        _, calls = record_calls(black_box, images)
        maps = [feature_map for feature_map, _ in feature_maps_in(black_box, calls, images)]
        assert head.feature_map in maps
