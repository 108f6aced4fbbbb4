import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Generator, nn

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.constant import Constant
from saliencykit.alternatives.crop import Crop
from saliencykit.alternatives.noise import Noise
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.maskers.cam.score_cam import ScoreCam, scaled_masks
from saliencykit.testing.black_boxes import Counting
from saliencykit.testing.unchanged import untouched

MEAN, STD = (0.4, 0.5, 0.6), (0.3, 0.25, 0.2)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 10, 3, padding=1),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(10, 4),
    )
    net[-1].weight.data *= 20  # so that the channels' logits differ
    return net.eval()


@pytest.fixture
def images():
    return torch.rand(3, 3, 12, 16, generator=Generator().manual_seed(1))


LABELS = torch.tensor([1, 3, 0])


def attribute(net, images, labels=LABELS, **arguments):
    return ScoreCam(**arguments).attribute(
        TorchBlackBox(net, mean=MEAN, std=STD, size=(12, 16)), images, labels, generator=Generator()
    )


def slow_map(net, image, label, keep=None, fill=None):
    """Channel by channel, in normalized space, with the logit of the fill subtracted, as in the
    paper.
    """
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    x = (image - mean) / std
    base = torch.zeros_like(x) if fill is None else (fill - mean) / std
    with torch.no_grad():
        maps = net[:5](x[None])[0]
        order = sorted(range(len(maps)), key=lambda k: -float(maps[k].double().var()))
        chosen = sorted(order[: keep or len(maps)])
        rises = []
        for k in chosen:
            large = F.interpolate(
                maps[None, k : k + 1], size=image.shape[1:], mode="bilinear", align_corners=False
            )[0]
            large = (large - large.min()) / (large.max() - large.min())
            seen = x * large + base * (1 - large)
            rises.append(float(net(seen[None])[0, label] - net(base[None])[0, label]))
    rises = np.array(rises)
    weights = np.exp(rises - rises.max())
    weights /= weights.sum()
    return sum(w * maps[k].numpy() for w, k in zip(weights, chosen, strict=True))


def resize_maps(scores, like):
    return F.interpolate(
        torch.tensor(scores)[None, None], size=like.shape[2:], mode="bilinear", align_corners=False
    )[0, 0]


def test_equals_a_plain_loop_over_channels(net, images):
    output = attribute(net, images)
    for row, label in enumerate(LABELS.tolist()):
        assert torch.allclose(
            output.attributions[row, 0],
            resize_maps(slow_map(net, images[row], label), images).float(),
            atol=1e-5,
        )
    assert output.attributions.abs().max() > 1e-2


@pytest.mark.parametrize("alternative", [Blur(sigma=2.0), Constant(color=0.25)], ids=repr)
def test_equals_a_plain_loop_with_any_fill_and_the_channels_that_vary_most(
    net, images, alternative
):
    output = attribute(net, images, channels=4, alternative=alternative)
    for row, label in enumerate(LABELS.tolist()):
        fill = alternative(images[row : row + 1], generator=Generator())[0]
        expected = slow_map(net, images[row], label, keep=4, fill=fill)
        assert torch.allclose(
            output.attributions[row, 0], resize_maps(expected, images).float(), atol=1e-5
        )


def test_a_named_layer_is_used(net, images):
    assert not torch.allclose(
        attribute(net, images, layer="2").attributions, attribute(net, images).attributions
    )
    assert torch.equal(
        attribute(net, images, layer="4").attributions, attribute(net, images).attributions
    )
    with pytest.raises(InputError, match="layer="):
        attribute(net, images, layer="nowhere")


def test_the_mask_is_the_positive_part_over_its_maximum(net, images):
    # the layer has a quarter of the pixels: before they are enlarged
    output = ScoreCam().mask(
        TorchBlackBox(net, mean=MEAN, std=STD, size=(12, 16)), images, LABELS, Generator()
    )
    positive = output.attributions.clamp_min(0)
    assert output.attributions.shape == (3, 1, 6, 8)
    assert (output.attributions < 0).any()
    assert torch.allclose(output.mask, positive / positive.amax((1, 2, 3), keepdim=True), atol=1e-6)


def test_masks_are_scaled_to_the_unit_interval_and_constant_maps_are_zero():
    maps = torch.stack([torch.rand(1, 4, 5) * 3 - 1, torch.full((1, 4, 5), 7.0)])
    large = scaled_masks(maps, (8, 10))
    assert large[0].min() == 0
    assert large[0].max() == 1
    assert (large[1] == 0).all()


@pytest.mark.parametrize("alternative", [Constant(color="zero"), Noise(), Crop()], ids=repr)
def test_the_mask_of_an_image_does_not_depend_on_its_batch(net, images, alternative):
    batch = attribute(net, images, alternative=alternative).attributions
    alone = [
        attribute(net, images[i : i + 1], LABELS[i : i + 1], alternative=alternative).attributions
        for i in range(3)
    ]
    assert torch.allclose(batch, torch.cat(alone), atol=1e-5)


def test_one_query_per_channel_and_one_for_the_feature_maps(net, images):
    black_box = TorchBlackBox(net, mean=MEAN, std=STD, size=(12, 16))
    queried = []
    handle = net[0].register_forward_hook(lambda module, given, out: queried.append(len(out)))
    try:  # the optimized copy has the hook too
        ScoreCam()(black_box, images, LABELS, generator=Generator())  # the layer is chosen once
        queried.clear()
        ScoreCam()(black_box, images, LABELS, generator=Generator())
        all_channels, few = sum(queried), len(queried)
        ScoreCam(channels=3)(black_box, images, LABELS, generator=Generator())
    finally:
        handle.remove()
    copying = all_channels - 3 * (10 + 1)  # queries that verify the optimized copy
    assert 0 <= copying <= 6
    assert sum(queried) - all_channels == 3 * (3 + 1) + copying
    assert few < all_channels  # several at once


def test_the_model_is_left_untouched(net, images):
    net.train()
    try:
        with untouched("score-cam", net, images=images):
            attribute(net, images)
    finally:
        net.eval()


def test_a_black_box_without_submodules_is_refused_with_advice(black_box, examples):
    with pytest.raises(InputError, match="rise"):
        ScoreCam()(Counting(black_box), *examples, generator=Generator())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"channels": 0}, "channels=0"),
        ({"channels": 2.5}, "channels"),
        ({"alternative": 0.5}, "takes Alternative, such as Constant"),
    ],
)
def test_bad_arguments_are_refused_at_once(wrong, says):
    with pytest.raises(InputError, match=says):
        ScoreCam(**wrong)


def test_double_precision_stays(net, images):
    assert attribute(net, images[:1].double(), LABELS[:1]).attributions.dtype == torch.float64
