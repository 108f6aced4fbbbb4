from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from saliencykit.core.errors import InputError
from saliencykit.explanation.explain_images import explain
from saliencykit.explanation.result import Explanation
from saliencykit.maskers.realtime.box_threshold import LEVELS, BoxThreshold
from saliencykit.maskers.realtime.masking_network import masking_network
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.testing import check_masker
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.testing.unchanged import untouched
from tests.helpers import seeded

NAMES = ("convolutional", "squeezed", "channels-last", "class-token", "flattened")
LIKE_OTHERS = ("squeezed", "flattened")  # their feature maps are as in "convolutional"


def randomized(network):
    with torch.no_grad():
        last = network.decoder.last
        last.weight.copy_(0.3 * torch.randn(last.weight.shape, generator=seeded(3)))
    return network


@pytest.fixture(
    params=[
        *(pytest.param(name, marks=[pytest.mark.slow] * (name in LIKE_OTHERS)) for name in NAMES),
        "own",
    ]
)
def made(request, net, photos):
    """A black box, a bound masker, and images."""
    if request.param == "own":
        black_box = PlantedEvidence()
        images, _ = black_box.examples(4, generator=seeded())
    else:
        black_box, images = net(request.param), photos(4)
    return (
        black_box,
        RealTimeMasker(network=randomized(masking_network(black_box, images))).bind(black_box),
        images,
    )


def test_predict_gives_the_logits_and_the_masks_of_the_top_classes(made):
    black_box, masker, images = made
    logits, mask = masker.predict(images)
    labels = black_box(images).argmax(1)
    assert torch.allclose(logits, black_box(images), atol=1e-4)
    assert mask.shape == (4, 1, *images.shape[2:])
    assert torch.allclose(mask, masker(black_box, images, labels, generator=seeded()), atol=1e-4)


def test_predict_gives_nested_masks_of_several_areas_in_one_pass(made):
    black_box, masker, images = made
    labels = torch.tensor([[0, 1], [2, 3], [1, 1], [3, 0]])
    areas = (0.05, 0.2, 0.6)
    logits, nested = masker.predict(images, labels[:, 0], budget=areas)
    assert torch.allclose(logits, black_box(images), atol=1e-4)
    assert nested.shape == (4, 3, *images.shape[2:])
    assert torch.allclose(nested.mean((2, 3)), torch.tensor(areas).expand(4, -1), atol=0.01)
    assert bool((nested[:, :-1] <= nested[:, 1:] + 1e-6).all())
    assert torch.allclose(masker.predict(images, labels[:, 0], budget=0.2)[1], nested[:, 1:2])
    several = masker.predict(images, labels, budget=areas)[1]
    assert several.shape == (4, 2, 3, *images.shape[2:])
    assert (several[:, 0] - nested).abs().mean() < 1e-3
    assert masker.predict(images, labels, budget=0.2)[1].shape == (4, 2, *images.shape[2:])
    explained = masker.with_budget(0.2)(black_box, images, labels[:, 0], generator=seeded())
    # a rounding error may swap the ranks of two pixels, and each then takes the other's value
    assert (explained - nested[:, 1:2]).abs().mean() < 1e-3


def test_predict_gives_masks_of_several_classes(made):
    black_box, masker, images = made
    labels = torch.tensor([[0, 1], [2, 3], [1, 1], [3, 0]])
    _, masks = masker.predict(images, labels)
    assert masks.shape == (4, 2, *images.shape[2:])
    for column in (0, 1):
        assert torch.allclose(
            masks[:, column : column + 1], masker.predict(images, labels[:, column])[1], atol=1e-5
        )
        assert torch.allclose(
            masks[:, column : column + 1],
            masker(black_box, images, labels[:, column], generator=seeded()),
            atol=1e-4,
        )


def test_it_fulfils_the_contract_of_maskers():
    black_box = PlantedEvidence()
    images, _ = black_box.examples(4, generator=seeded())
    network = randomized(masking_network(black_box, images))
    with torch.no_grad():  # of an untrained encoder the responses are tiny and the scale is huge
        network.selector.log_scale.fill_(3.0)
    check_masker(RealTimeMasker(network=network))


def test_the_model_and_the_network_are_left_unchanged(made):
    black_box, masker, images = made
    masker.network.train()
    flags = {name: p.requires_grad for name, p in masker.network.named_parameters()}
    if black_box.module is not None:
        black_box.module.train()
    with untouched("predict", black_box.module, images=images):
        masker.predict(images)
        masker(black_box, images, torch.tensor([0, 1, 2, 3]), generator=seeded())
    with untouched("predict", masker.network):
        masker.predict(images)
    assert {name: p.requires_grad for name, p in masker.network.named_parameters()} == flags
    assert masker.network.training


def test_predict_takes_one_forward_pass(net, photos):
    black_box, images, passes = net("convolutional"), photos(4), []
    masker = RealTimeMasker(network=masking_network(black_box, images)).bind(black_box)
    masker.predict(images)

    def count(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if isinstance(module, type(black_box.module)):
            passes.append(len(args[0]))

    with register_module_forward_pre_hook(count):
        masker.predict(images, torch.tensor([[0, 1, 2]] * 4))
    assert passes == [4]


def test_the_confidence_makes_masks_smaller(made):
    _, masker, images = made
    areas = [
        RealTimeMasker(network=masker.network, confidence=c)
        .bind(masker.black_box)
        .predict(images)[1]
        .mean()
        .item()
        for c in (-2.0, 0.0, 2.0)
    ]
    assert areas[0] >= areas[1] >= areas[2]
    assert areas[0] > areas[2]


def test_predict_works_in_inference_mode(made):
    black_box, masker, images = made
    labels = torch.tensor([0, 1, 2, 3])
    expected = masker.predict(images, labels)[1]
    expected.mul_(1.0)  # an ordinary tensor
    fresh = RealTimeMasker(network=masker.network).bind(black_box)
    with torch.inference_mode():
        assert torch.allclose(fresh.predict(images, labels)[1], expected, atol=1e-5)
    again = fresh(black_box, images, labels, generator=seeded())
    assert not again.requires_grad
    assert torch.allclose(again, expected, atol=1e-4)


def test_an_unbound_masker_says_what_to_write(photos, net):
    masker = RealTimeMasker(network=masking_network(net("convolutional"), photos(2)))
    with pytest.raises(InputError, match=r"not bound to a model; write .*\(path, black_box\)"):
        masker.predict(photos(2))


def test_unknown_labels_are_refused(made):
    _, masker, images = made
    with pytest.raises(InputError, match="label 9 in row 1 is outside"):
        masker.predict(images, torch.tensor([0, 9, 0, 0]))
    with pytest.raises(InputError, match="label -1"):
        masker.predict(images, torch.tensor([[0, -1]] * 4))
    with pytest.raises(InputError, match="one per image"):
        masker.predict(images, torch.tensor([0, 1]))
    with pytest.raises(InputError, match="takes labels"):
        masker.predict(images, torch.tensor([[0], [1]]))


def test_binding_keeps_the_metadata(net, photos):
    black_box, images = net("convolutional"), photos(2)
    masker = RealTimeMasker(
        network=masking_network(black_box, images), metadata={"training": {"steps": 3}}
    )
    bound = masker.bind(black_box)
    assert bound.metadata["training"] == {"steps": 3}
    assert len(bound.metadata["fingerprint"]) == 32
    assert "fingerprint" not in masker.metadata
    assert (
        bound.bind(net("convolutional", seed=1)).metadata["fingerprint"]
        == bound.metadata["fingerprint"]
    ), "of the box it was made for"
    assert bound.black_box is black_box


def test_the_repr_names_encoder_and_decoder(made):
    _, masker, _ = made
    assert repr(masker) in (
        "RealTimeMasker(TrunkEncoder, UNet, confidence=0.0)",
        "RealTimeMasker(StandaloneEncoder, UNet, confidence=0.0)",
    )


def test_images_of_another_size(net, photos):
    black_box = net("convolutional")
    masker = RealTimeMasker(network=masking_network(black_box, photos(2))).bind(black_box)
    assert masker.predict(photos(2, side=48))[1].shape == (2, 1, 48, 48)


def test_explain_uses_it(made):
    black_box, masker, images = made
    explanation = explain(black_box, images, masker=masker, inputs="raw")
    assert torch.allclose(explanation.mask, masker.predict(images)[1], atol=1e-4)


def test_one_pass_gives_logits_and_a_masker(made):
    black_box, masker, images = made
    ready, logits = masker.predict_masker(black_box, images)
    assert torch.allclose(logits, black_box(images), atol=1e-5)
    labels = torch.tensor([0, 1, 2, 3])
    assert torch.allclose(
        ready(black_box, images, labels, generator=seeded()),
        masker(black_box, images, labels, generator=seeded()),
        atol=1e-6,
    )


def test_a_bfloat16_model_gives_float32_results(net, photos):
    black_box, images = net("convolutional"), photos(3)
    masker = RealTimeMasker(network=masking_network(black_box, images)).bind(black_box)
    half = net("convolutional")
    half.model.bfloat16()
    logits, mask = RealTimeMasker(network=masker.network).bind(half).predict(images)
    assert mask.dtype == torch.float32
    assert (mask - masker.predict(images)[1]).abs().mean() < 0.1
    assert (logits - black_box(images)).abs().max() < 0.2


@pytest.mark.parametrize(
    ("name", "in_place"),
    [
        ("convolutional", False),
        pytest.param("class-token", True, marks=pytest.mark.slow),
        pytest.param("convolutional", True, marks=pytest.mark.slow),
        pytest.param("class-token", False, marks=pytest.mark.slow),
    ],
)
def test_a_compiled_model_gives_the_same_results(name, in_place, net, photos):
    plain, images = net(name), photos(3)
    masker = RealTimeMasker(network=randomized(masking_network(plain, images)))
    logits, mask = masker.bind(plain).predict(images)
    model = net(name).model
    if in_place:
        model.compile(backend="eager")
    else:
        model = torch.compile(model, backend="eager")
    black_box = replace(plain, model=model)
    black_box(images)  # compiled now: its layers' hooks are no longer called
    assert all(
        torch.allclose(a, b, atol=1e-6)
        for a, b in zip(masker.bind(black_box).predict(images), (logits, mask), strict=True)
    )
    assert torch.allclose(
        masker(black_box, images, logits.argmax(1), generator=seeded()), mask, atol=1e-5
    )
    assert (
        masking_network(black_box, images).encoder.feature_maps
        == masker.network.encoder.feature_maps
    )


@pytest.mark.parametrize("name", ["convolutional", "squeezed", "class-token"])
def test_models_and_images_in_channels_last(name, net, photos):
    black_box, images = net(name), photos(3)
    masker = RealTimeMasker(network=randomized(masking_network(black_box, images)))
    expected = masker.bind(black_box).predict(images)
    other = net(name)
    other.model.to(memory_format=torch.channels_last)
    for given in (images, images.contiguous(memory_format=torch.channels_last)):
        for got, right in zip(masker.bind(other).predict(given), expected, strict=True):
            assert torch.allclose(got, right, atol=1e-5)
    with untouched("predict", other.model):
        masker(other, images, torch.tensor([0, 1, 2]), generator=seeded())


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_models_of_every_layout(name, net, photos):
    images = photos(3)
    black_box = net(name)
    masker = RealTimeMasker(network=randomized(masking_network(black_box, images)))
    labels = torch.tensor([0, 1, 2])
    half = net(name)
    half.model.bfloat16()
    logits, mask = masker.bind(half).predict(images, labels)
    assert (logits.dtype, mask.dtype) == (torch.float32, torch.float32)
    assert (mask - masker.bind(black_box).predict(images, labels)[1]).abs().mean() < 0.1
    assert (
        masking_network(half, images)(masker.network.encoder.encode(half, images), labels)[0]
        .isfinite()
        .all()
    )


def test_black_boxes_without_a_module_are_told_apart():
    one, other = PlantedEvidence(), PlantedEvidence(sharpness=4.0)
    images, _ = one.examples(2, generator=torch.Generator().manual_seed(0))
    masker = RealTimeMasker(masking_network(one, images)).bind(one)
    assert masker.for_black_box(one) is masker
    assert masker.for_black_box(other).black_box is other


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.fc.weight.detach().neg_(),
        lambda model: model.stages[0][1].running_mean.add_(0.3),
        lambda model: setattr(model, "fc", nn.Linear(16, 5)),
        lambda model: model.stages.__setitem__(0, nn.Sequential(model.stages[0], nn.Tanh())),
        lambda model: model.load_state_dict({k: v * 1.1 for k, v in model.state_dict().items()}),
        lambda model: setattr(model.stages[0][0], "padding", (0, 0)),
        lambda model: [each.data.copy_(each.data * 1.1) for each in model.parameters()],
    ],
)
@pytest.mark.filterwarnings("ignore:this masker was trained for another model")
def test_predict_follows_a_model_that_changes(change, net, photos):
    black_box, images = net("convolutional"), photos(2)
    masker = RealTimeMasker(randomized(masking_network(black_box, images))).bind(black_box)
    labels = torch.tensor([1, 2])
    before, _ = masker.predict(images, labels)
    change(black_box.model)
    logits, mask = masker.predict(images, labels)
    assert not torch.allclose(logits, before, atol=1e-3)
    assert torch.allclose(logits, black_box(images), atol=1e-4)
    fresh = RealTimeMasker(masker.network, metadata=masker.metadata).for_black_box(black_box)
    assert torch.allclose(mask, fresh.predict(images, labels)[1], atol=1e-5)
    assert torch.allclose(mask, masker(black_box, images, labels, generator=seeded()), atol=1e-4)


def test_weights_that_changed_are_said(net, photos):
    black_box, images = net("convolutional"), photos(2)
    masker = RealTimeMasker(masking_network(black_box, images)).bind(black_box)
    masker.predict(images)
    with torch.no_grad():
        black_box.model.fc.weight.mul_(2)
    with pytest.warns(UserWarning, match="the weights differ"):
        masker.predict(images)


def test_the_threshold_of_the_boxes_is_stored_and_reaches_the_explanation(tmp_path):
    black_box = PlantedEvidence()
    images, labels = black_box.examples(3, generator=torch.Generator().manual_seed(0))
    network = masking_network(black_box, images, labels)
    network.box_threshold = BoxThreshold()
    network.box_threshold.bias.zero_()[LEVELS.index(0.2)] = 1.0
    path = RealTimeMasker(network).bind(black_box).save(tmp_path / "masker.safetensors")
    explanation = explain(black_box, images, labels, masker=RealTimeMasker.load(path, black_box))
    assert explanation.box_thresholds.tolist() == pytest.approx([0.2] * 3)
    assert torch.equal(explanation.boxes(), explanation.boxes(0.2))
    again = Explanation.load(explanation.save(tmp_path / "saved"))
    assert torch.equal(again.boxes(), explanation.boxes())
    half = explain(black_box, images, labels, masker=RealTimeMasker.load(path), budget=0.3)
    assert half.box_thresholds is None
    assert torch.equal(half.boxes(), half.boxes(0.5))
