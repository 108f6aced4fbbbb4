"""Where the positions of a layer lie on the image."""

import pytest
import torch
import torch.nn.functional as F
from torch import Generator

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.map_placement import place_maps, resize_maps
from saliencykit.maskers.cam.cam import Cam
from saliencykit.maskers.cam.grad_cam import GradCam
from saliencykit.maskers.gradient.excitation_backprop import ExcitationBackprop
from saliencykit.networks.target_layer import find_target_layer
from tests.helpers import centers, padded, spots

MASKERS = [Cam(), GradCam(), ExcitationBackprop(layer="8")]


@pytest.mark.parametrize("masker", MASKERS, ids=lambda masker: type(masker).__name__)
@pytest.mark.parametrize("sides", [(0, 1, 0, 1), (1, 0, 1, 0), (1, 0, 0, 1)])
def test_a_mirrored_image_gets_the_mirrored_mask_however_layers_are_padded(masker, sides):
    black_box, (images, at) = padded(sides), spots()
    labels = torch.zeros(4, dtype=torch.int64)
    ways = (images, images.flip(3), images.flip(2))
    outputs = [masker.mask(black_box, each, labels, Generator()) for each in ways]
    apart, similar, off = [], [], []
    for offset in ((0.0, 0.0), outputs[0].offset):
        masks, across, down = (place_maps(each.mask, (64, 64), offset) for each in outputs)
        mirrored = torch.cat([across.flip(3), down.flip(2)])
        twice = masks.repeat(2, 1, 1, 1)
        apart.append((centers(twice) - centers(mirrored)).abs().max())
        similar.append(F.cosine_similarity(twice.flatten(1), mirrored.flatten(1)).min())
        off.append((centers(masks) - at).abs().mean())
    assert torch.equal(masker(black_box, images, labels, generator=Generator()), masks)
    # 15 px without an offset, 6 with it: at the borders less of the image is seen
    assert apart[1] < 0.5 * apart[0]
    assert similar[1] > similar[0] + 0.25
    assert off[1] < 0.5 * off[0]


def test_an_even_grid_is_enlarged_as_ever():
    black_box = padded((1, 1, 1, 1), size=65)  # 65, 33, 17, 9, 5: as much on each side
    images = torch.rand(2, 3, 65, 65, generator=Generator().manual_seed(0))
    labels = torch.tensor([0, 1])
    output = Cam().mask(black_box, images, labels, Generator())
    assert output.offset == (0, 0)
    whole = Cam().attribute(black_box, images, labels, generator=Generator())
    assert torch.equal(whole.attributions, resize_maps(output.attributions, (65, 65)))


@pytest.mark.parametrize(
    ("name", "options", "low", "high"),
    [
        pytest.param("tf_efficientnet_b0", {}, 2, 16, marks=pytest.mark.slow),
        ("tf_mobilenetv3_small_minimal_100", {}, 2, 16),
        ("resnet18", {}, -16, -4),  # padding=1 sees more of what is above and to the left
        ("convnext_atto", {"depths": (1, 1, 2, 1)}, 0, 0),
        ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 2, 1), "img_size": 128}, 0, 0),
        ("vit_tiny_patch16_224", {"depth": 2, "img_size": 128}, 0, 0),
    ],
)
def test_the_offset_is_that_of_the_architecture(name, options, low, high):
    timm = pytest.importorskip("timm")
    if "swin" in name:
        options = {**options, "window_size": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=3, **options).eval()
    feature_map = find_target_layer(TorchBlackBox(model, size=128), torch.rand(1, 3, 128, 128))
    assert all(low <= offset <= high for offset in feature_map.offset)


def test_maps_are_moved_by_whole_positions_exactly():
    maps = torch.rand(2, 3, 6, 8, generator=Generator().manual_seed(0))
    moved = place_maps(maps, (24, 32), (4.0, -8.0))
    even = resize_maps(maps, (24, 32))
    assert torch.allclose(moved[:, :, 4:, :-8], even[:, :, :-4, 8:], atol=1e-6)
    assert torch.equal(place_maps(maps, (24, 32), (0.0, 0.0)), even)
    mirrored = place_maps(maps.flip(3), (24, 32), (4.0, 8.0)).flip(3)
    assert torch.allclose(mirrored, moved, atol=1e-5)


def test_what_is_saved_is_the_moved_mask():
    black_box, (images, _) = padded((0, 1, 0, 1)), spots()
    output = Cam().attribute(
        black_box, images, torch.zeros(4, dtype=torch.int64), generator=Generator()
    )
    assert output.low_res_mask.shape == (4, 1, 16, 16)
    assert (resize_maps(output.low_res_mask, (64, 64)) - output.mask).abs().mean() < 0.02
