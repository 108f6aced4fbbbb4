"""Occlusion against Captum and a plain loop, its mask, and its number of queries."""

import numpy as np
import pytest
import torch
from torch import Generator, nn

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.choice import Choice
from saliencykit.alternatives.constant import Constant
from saliencykit.alternatives.crop import Crop
from saliencykit.alternatives.noise import Noise
from saliencykit.black_boxes.function import FunctionBlackBox
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.maskers.perturbation.occlusion import Occlusion
from saliencykit.testing.black_boxes import Counting, PlantedEvidence, QueryOnly, iou


def small_network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.LazyLinear(5),
        ).eval()


def slow_map(black_box, image, label, window, stride, fill):
    """Zeiler & Fergus, one window at a time."""
    height, width = image.shape[2:]
    whole = black_box(image).softmax(1)[0, label]
    total, count = torch.zeros(height, width), torch.zeros(height, width)
    top = 0
    while True:
        left = 0
        while True:
            edit = image.clone()
            edit[:, :, top : top + window, left : left + window] = fill[
                :, :, top : top + window, left : left + window
            ]
            total[top : top + window, left : left + window] += (
                whole - black_box(edit).softmax(1)[0, label]
            )
            count[top : top + window, left : left + window] += 1
            if left + window >= width:
                break
            left += stride
        if top + window >= height:
            break
        top += stride
    return total / count


def attribute(masker, black_box, images, labels, seed=0):
    return masker.attribute(black_box, images, labels, generator=Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("size", "window", "stride"),
    [((16, 16), 4, 2), ((17, 13), 5, 3), ((9, 20), 9, 4), ((16, 16), 3, 3)],
)
def test_equals_captums_occlusion(size, window, stride):
    from captum.attr import Occlusion as Captums

    net = small_network()
    images, labels = (
        torch.rand(2, 3, *size, generator=Generator().manual_seed(1)),
        torch.tensor([3, 0]),
    )
    with torch.no_grad():
        net(images)
        theirs = Captums(lambda x: net(x).softmax(1)).attribute(
            images,
            sliding_window_shapes=(3, window, window),
            strides=(3, stride, stride),
            baselines=0.25,
            target=labels,
        )
    ours = attribute(
        Occlusion(window=window, stride=stride, alternative=Constant(color=0.25)),
        TorchBlackBox(net, size=size),
        images,
        labels,
    ).attributions
    assert torch.allclose(ours.expand_as(theirs), theirs, atol=1e-5)
    assert ours.abs().max() > 1e-3


@pytest.mark.parametrize(
    "name",
    [pytest.param("mnasnet0_5", marks=pytest.mark.slow), "squeezenet1_1", "vit_b_16"],
)
def test_equals_captums_occlusion_for_networks_with_full_and_with_incremental_passes(name):
    import torchvision
    from captum.attr import Occlusion as Captums

    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name == "vit_b_16":
            small = {
                "image_size": 64,
                "patch_size": 16,
                "num_layers": 1,
                "num_heads": 2,
                "hidden_dim": 16,
                "mlp_dim": 32,
            }
            net = torchvision.models.VisionTransformer(**small, num_classes=7).eval()
        else:
            net = getattr(torchvision.models, name)(weights=None, num_classes=7).eval()
        for (
            module
        ) in net.modules():  # as they are first drawn, some hardly output differently to anything
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.normal_(module.weight, 0, (2 / module.weight[0].numel()) ** 0.5)
    # their weights being drawn, in single precision two orders of summation already differ by more
    net = net.double()
    images = torch.rand(2, 3, 64, 64, generator=Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.tensor([3, 0])
    with torch.no_grad():
        theirs = Captums(lambda x: net(x).softmax(1)).attribute(
            images,
            sliding_window_shapes=(3, 16, 16),
            strides=(3, 12, 12),
            baselines=0.25,
            target=labels,
        )
    black_box = TorchBlackBox(net, size=64)
    ours = attribute(
        Occlusion(window=16, stride=12, alternative=Constant(color=0.25)), black_box, images, labels
    ).attributions
    assert (ours - theirs).abs().max() < 1e-6 * (theirs.max() - theirs.min())
    assert theirs.max() - theirs.min() > 1e-3


@pytest.mark.parametrize(
    "alternative", [Constant(color="mean"), Blur(sigma=2.0), Noise()], ids=repr
)
@pytest.mark.parametrize("limit", [1, 5, None])
def test_equals_a_plain_loop_with_any_fill(alternative, limit):
    black_box = PlantedEvidence(max_batch_size=limit)
    images, labels = black_box.examples(2, generator=Generator().manual_seed(3), size=(11, 14))
    output = attribute(
        Occlusion(window=5, stride=2, alternative=alternative), black_box, images, labels
    )
    again = attribute(
        Occlusion(window=5, stride=2, alternative=alternative), PlantedEvidence(), images, labels
    )
    assert torch.allclose(output.attributions, again.attributions, atol=1e-6)
    if isinstance(alternative, Noise):
        return  # the masker draws its own fill
    for row, (image, label) in enumerate(zip(images[:, None], labels, strict=True)):
        fill = alternative(image, generator=Generator())
        assert torch.allclose(
            output.attributions[row, 0], slow_map(black_box, image, label, 5, 2, fill), atol=1e-5
        )


def test_an_alternative_that_overrides_edit_is_used_for_each_window(black_box, examples):
    images, labels = examples
    masker = Occlusion(window=8, stride=8, alternative=Crop())
    whole = black_box(images).softmax(1).gather(1, labels[:, None])[:, 0]
    corner = torch.ones(4, 1, 16, 16)
    corner[..., :8, :8] = 0
    edits = Crop().edit(images, corner, Generator())
    expected = whole - black_box(edits).softmax(1).gather(1, labels[:, None])[:, 0]
    assert torch.allclose(
        attribute(masker, black_box, images, labels).attributions[:, 0, 0, 0], expected, atol=1e-6
    )


def test_finds_planted_evidence_and_nothing_for_the_wrong_label(black_box, examples):
    images, labels = examples
    masker = Occlusion(window=4, stride=1)
    mask, truth = (
        masker(black_box, images, labels, generator=Generator()),
        black_box.evidence(images, labels),
    )
    assert (mask.flatten(1).argmax(1) == (mask * truth).flatten(1).argmax(1)).all()
    assert iou(mask, truth, 0.75).mean() > 0.4
    other = attribute(masker, black_box, images, (labels + 1) % 4)
    assert (
        other.attributions.amin((1, 2, 3)) < -0.01
    ).all()  # hiding the other class's patch raises p(label)
    assert ((other.mask == 0) == (other.attributions <= 0)).all()


def test_the_mask_is_the_positive_part_of_the_attributions_over_its_maximum(black_box, examples):
    output = attribute(Occlusion(window=4, stride=2), black_box, *examples)
    positive = output.attributions.clamp_min(0)
    assert torch.allclose(output.mask, positive / positive.amax((1, 2, 3), keepdim=True), atol=1e-6)
    assert output.standard_error is None


def test_a_constant_model_gets_an_empty_mask():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4))
    nn.init.zeros_(net[1].weight)
    images = torch.rand(2, 3, 8, 8, generator=Generator().manual_seed(0))
    assert (
        attribute(Occlusion(), TorchBlackBox(net, size=8), images, torch.tensor([0, 3])).mask.max()
        < 0.1
    )


@pytest.mark.parametrize("alternative", [Constant(color="mean"), Noise(), Choice()], ids=repr)
def test_the_mask_of_an_image_does_not_depend_on_its_batch(black_box, examples, alternative):
    images, labels = examples
    masker = Occlusion(window=4, stride=2, alternative=alternative)
    batch = attribute(masker, black_box, images, labels).attributions
    alone = [
        attribute(masker, black_box, images[i : i + 1], labels[i : i + 1]).attributions
        for i in range(4)
    ]
    assert torch.allclose(batch, torch.cat(alone), atol=1e-5)
    assert torch.allclose(
        batch.flip(0),
        attribute(masker, black_box, images.flip(0), labels.flip(0)).attributions,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    "size", [(4, 4), (8, 8), (16, 16), (32, 32), (64, 64), (5, 40), (224, 224)]
)
def test_the_defaults_take_a_reasonable_number_of_queries_at_every_size(size):
    black_box = Counting(
        QueryOnly(
            FunctionBlackBox(
                lambda x: 9 * np.stack([x[:, 0, 0, 0], x[:, -1, -1, 0]], 1),
                num_classes=2,
                probabilities=False,
            )
        )
    )
    mask = Occlusion()(black_box, torch.rand(1, 3, *size), torch.tensor([0]), generator=Generator())
    assert mask.shape == (1, 1, *size)
    assert (
        (black_box.num_images == 626)
        if size == (224, 224)
        else (size[0] <= black_box.num_images <= 1000)
    )


def test_one_query_per_window_and_one_for_the_image():
    black_box = Counting(PlantedEvidence(max_batch_size=10))
    images, labels = black_box.black_box.examples(3, generator=Generator().manual_seed(0))
    Occlusion(window=4, stride=4)(black_box, images, labels, generator=Generator())
    assert black_box.num_images == 3 * (16 + 1)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"window": 0}, "window=0"),
        ({"stride": -1}, "stride=-1"),
        ({"window": float("nan")}, "window"),
        ({"alternative": 0.5}, "takes Alternative, such as Constant"),
    ],
)
def test_bad_arguments_are_refused_at_once(wrong, says):
    with pytest.raises(InputError, match=says):
        Occlusion(**wrong)


def test_windows_that_do_not_fit_are_refused_with_advice(black_box, examples):
    with pytest.raises(InputError, match=r"larger than the 16 x 16 image; write window=1/7"):
        Occlusion(window=32, stride=8)(black_box, *examples, generator=Generator())
    with pytest.raises(InputError, match="would miss pixels"):
        Occlusion(window=2, stride=3)(black_box, *examples, generator=Generator())


def test_double_precision_stays(black_box):
    images, labels = black_box.examples(1, generator=Generator().manual_seed(0))
    assert (
        attribute(Occlusion(), black_box, images.double(), labels).attributions.dtype
        == torch.float64
    )
