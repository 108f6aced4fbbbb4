"""Several layers and several input sizes of one class activation map."""

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.maskers.cam.ablation_cam import AblationCam
from saliencykit.maskers.cam.cam import Cam
from saliencykit.maskers.cam.eigen_cam import EigenCam
from saliencykit.maskers.cam.grad_cam import GradCam
from saliencykit.maskers.cam.layer_cam import LayerCam
from saliencykit.maskers.cam.score_cam import ScoreCam
from saliencykit.maskers.normalize import mask_from_attributions
from saliencykit.registry.coerce import as_masker

LABELS = torch.tensor([3, 0])


def pooled():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
        ).eval()  # fmt: skip


def images(side=32):
    return torch.rand(2, 3, side, side, generator=Generator().manual_seed(1))


def resized(maps):
    return F.interpolate(maps, (32, 32), mode="bilinear", align_corners=False)


@pytest.mark.parametrize("masker", [Cam, GradCam, AblationCam, ScoreCam, EigenCam])
def test_scales_average_the_maps_of_several_input_sizes(masker):
    black_box, x = TorchBlackBox(pooled(), size=32), images()
    parts = []
    for side in (32, 48):
        larger = F.interpolate(x, (side, side), mode="bilinear", antialias=True)
        output = masker().mask(black_box, larger, LABELS, Generator())
        parts.append(resized(output.mask))
    wanted = mask_from_attributions(sum(parts))
    ours = masker(scales=(1, 1.5))(black_box, x, LABELS, generator=Generator())
    assert torch.allclose(ours, wanted, atol=1e-5)


def test_several_layers_are_averaged_after_division_by_their_maxima():
    black_box, x = TorchBlackBox(pooled(), size=32), images()
    parts = [LayerCam(layer=n).mask(black_box, x, LABELS, Generator()) for n in ("1", "3")]
    output = LayerCam(layer=("1", "3")).mask(black_box, x, LABELS, Generator())
    wanted = mask_from_attributions(sum(resized(part.mask) for part in parts))
    assert torch.allclose(output.mask, wanted, atol=1e-5)
    signed = [p.attributions / p.attributions.amax((1, 2, 3), keepdim=True) for p in parts]
    mean = sum(map(resized, signed)) / 2
    assert torch.allclose(output.attributions, mean, atol=1e-4)


def test_layers_and_scales_are_read_from_text():
    assert as_masker("grad-cam:layer3") == GradCam(layer="layer3")
    assert as_masker("grad-cam-plus-plus:layer=layer3+layer4").layer == ("layer3", "layer4")
    assert as_masker("layer-cam:scales=1+1.4+2").scales == (1, 1.4, 2)
    with pytest.raises(InputError, match="no option 'layer'"):
        as_masker("cam:layer=layer3")


def test_a_model_of_one_input_size_is_refused_with_the_way_out():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 15**2, 4))
    with pytest.raises(InputError, match=r"does not take images of 64 x 64 pixels; leave out"):
        GradCam(scales=(1, 2))(TorchBlackBox(net, size=32), images(), LABELS, generator=Generator())


@pytest.mark.parametrize(
    "options",
    [{"scales": 2}, {"scales": ()}, {"scales": (1, 0)}, {"scales": "12"}, {"scales": (1, "a")},
     {"scales": (1, float("inf"))}, {"layer": ()}, {"layer": ("a", 3)}, {"layer": 4},
     {"layer": ""}],
)  # fmt: skip
def test_wrong_options_are_refused(options):
    with pytest.raises(InputError, match="expected"):
        GradCam(**options)
