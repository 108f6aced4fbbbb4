"""The gradient-weighted maps against slow formulas, pytorch-grad-cam and torch-cam."""

import numpy as np
import pytest
import torch
from torch import Generator, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.maskers.cam.eigen_cam import EigenCam
from saliencykit.maskers.cam.finer_cam import FinerCam
from saliencykit.maskers.cam.grad_cam import GradCam
from saliencykit.maskers.cam.grad_cam_plus_plus import GradCamPlusPlus
from saliencykit.maskers.cam.hires_cam import HiResCam
from saliencykit.maskers.cam.layer_cam import LayerCam
from saliencykit.maskers.cam.xgrad_cam import XGradCam
from saliencykit.testing.unchanged import untouched

LABELS = torch.tensor([3, 0, 1])
LAYER = "3"


def network(scale=1.0):
    """A small network whose head is not linear, so that the methods differ."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 12, 3, 2), nn.ReLU(),
            nn.Conv2d(12, 12, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(108, 6),
        )  # fmt: skip
    net[-1].weight.data *= scale
    return net.eval().double()


def images():
    return torch.rand(3, 3, 32, 32, generator=Generator().manual_seed(1)).double()


def attributions(masker, model, x):
    return masker.mask(TorchBlackBox(model, size=32), x, LABELS, Generator()).attributions[:, 0]


def activations_and_gradients(model, x):
    """Of the layer, one image after the other, as numpy (C, h, w)."""
    rows = []
    for image, label in zip(x, LABELS, strict=True):
        maps = model[: int(LAYER) + 1](image[None]).detach().requires_grad_()
        logits = model[int(LAYER) + 1 :](maps)
        (gradient,) = torch.autograd.grad(logits[0, label], maps)
        rows.append((maps[0].detach().numpy(), gradient[0].numpy()))
    return rows


def plus_plus(maps, gradient):
    total = np.zeros(maps.shape[1:])
    for a, g in zip(maps, gradient, strict=True):
        weight = 0.0
        for y in range(g.shape[0]):
            for x in range(g.shape[1]):
                denominator = 2 * g[y, x] ** 2 + a.sum() * g[y, x] ** 3
                if g[y, x] > 0 and denominator > 0:
                    weight += g[y, x] ** 2 / denominator * g[y, x]
        total += weight * a
    return total


def x_grad(maps, gradient):
    return sum(
        (g * a).sum() / a.sum() * a for a, g in zip(maps, gradient, strict=True) if a.sum() > 0
    )


@pytest.mark.parametrize(
    ("masker", "formula"),
    [
        (GradCam, lambda a, g: sum(gk.mean() * ak for ak, gk in zip(a, g, strict=True))),
        (HiResCam, lambda a, g: (a * g).sum(0)),
        (LayerCam, lambda a, g: (a * np.maximum(g, 0)).sum(0)),
        (GradCamPlusPlus, plus_plus),
        (XGradCam, x_grad),
    ],
)
def test_equals_the_formula_of_the_paper(masker, formula):
    model, x = network(), images()
    ours = attributions(masker(layer=LAYER), model, x).numpy()
    for row, (maps, gradient) in zip(ours, activations_and_gradients(model, x), strict=True):
        np.testing.assert_allclose(row, formula(maps, gradient), rtol=1e-9, atol=1e-12)


def correlation(ours, theirs):
    return min(
        abs(float(np.corrcoef(a.ravel(), b.ravel())[0, 1]))
        for a, b in zip(ours, theirs, strict=True)
    )


PAIRS = [
    (GradCam, "GradCAM"),
    (GradCamPlusPlus, "GradCAMPlusPlus"),
    (HiResCam, "HiResCAM"),
    (LayerCam, "LayerCAM"),
    (XGradCam, "XGradCAM"),
]


@pytest.mark.parametrize("layers", [(LAYER,), ("1", LAYER)])
@pytest.mark.parametrize(("masker", "name"), PAIRS)
def test_maps_equal_those_of_pytorch_grad_cam(masker, name, layers):
    peer = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    # with small gradients its constant of 1e-6 in the denominator of Grad-CAM++ counts
    model, x = network(scale=100).float(), images().float()
    targets = [ClassifierOutputTarget(int(label)) for label in LABELS]
    with getattr(peer, name)(
        model=model, target_layers=[model.get_submodule(each) for each in layers]
    ) as cam:
        theirs = cam(input_tensor=x.clone(), targets=targets)
    given = layers[0] if len(layers) == 1 else layers
    black_box = TorchBlackBox(network(scale=100).float(), size=32)
    ours = masker(layer=given)(black_box, x, LABELS, generator=Generator())
    assert correlation(ours[:, 0].numpy(), theirs) >= 0.999


@pytest.mark.parametrize(
    ("masker", "name"),
    # without its Grad-CAM++, whose division by the denominator works on a copy that is thrown away
    [(LayerCam, "LayerCAM"), (XGradCam, "XGradCAM"), (FinerCam, "FinerCAM")],
)
def test_maps_equal_those_of_torch_cam(masker, name):
    peer = pytest.importorskip("torchcam.methods")
    model, x = network().float(), images().float()
    ours = attributions(masker(layer=LAYER), network().float(), x).clamp_min(0)
    with getattr(peer, name)(model, LAYER) as extractor:
        logits = model(x.clone())
        (theirs,) = extractor(LABELS.tolist(), logits)
    assert correlation(ours.numpy(), theirs.numpy()) >= 0.999


def test_finer_cam_with_one_reference_equals_pytorch_grad_cams():
    peer = pytest.importorskip("pytorch_grad_cam")
    model, x = network().float(), images().float()
    with peer.FinerCAM(model=model, target_layers=[model[1]]) as cam:
        theirs = cam(input_tensor=x.clone(), alpha=1, comparison_categories=[1])
    masker, black_box = FinerCam(layer="1", references=1, gamma=1), TorchBlackBox(model, size=32)
    ours = masker(black_box, x, model(x).argmax(1), generator=Generator())
    assert correlation(ours[:, 0].numpy(), theirs) >= 0.999


def test_finer_cam_without_comparison_is_grad_cam():
    model, x = network(), images()
    ours = attributions(FinerCam(layer=LAYER, gamma=0), model, x)
    assert torch.allclose(ours, attributions(GradCam(layer=LAYER), model, x))


def test_finer_cam_compares_with_all_classes_where_there_are_few():
    logits, labels = torch.tensor([[3.0, 1.0]]), torch.tensor([0])
    assert FinerCam(references=5).score(logits, labels).item() == pytest.approx(3 - 0.6 * 1)
    assert FinerCam().score(torch.tensor([[3.0]]), labels).item() == 3


def test_where_mean_pooling_follows_hires_and_xgrad_cam_are_grad_cam():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    ).double()
    wanted = attributions(GradCam(), net, images())
    for masker in (HiResCam(), XGradCam()):
        assert torch.allclose(attributions(masker, net, images()), wanted)


def test_eigen_cam_is_the_projection_on_the_first_right_singular_vector():
    model, x = network(), images()
    ours = attributions(EigenCam(layer=LAYER), model, x).numpy()
    for row, (maps, _) in zip(ours, activations_and_gradients(model, x), strict=True):
        vectors = maps.reshape(len(maps), -1).T
        centered = vectors - vectors.mean(0)
        scores = centered @ np.linalg.svd(centered)[2][0]
        scores *= np.sign((scores * (vectors**2).sum(1)).sum())
        np.testing.assert_allclose(row.ravel(), scores, rtol=1e-6, atol=1e-9)


def test_eigen_cam_equals_pytorch_grad_cams_up_to_the_sign():
    peer = pytest.importorskip("pytorch_grad_cam.utils.svd_on_activations")
    model, x = network(), images()
    ours = attributions(EigenCam(layer=LAYER), model, x).numpy()
    maps = np.stack([maps for maps, _ in activations_and_gradients(model, x)])
    assert correlation(ours, peer.get_2d_projection(maps)) >= 0.999


def test_eigen_cam_of_a_constant_map_is_empty():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 7**2, 4))
    black_box = TorchBlackBox(net, size=16)
    mask = EigenCam(layer="1")(
        black_box, torch.full((1, 3, 16, 16), 0.5), torch.tensor([0]), generator=Generator()
    )
    assert mask.max() == 0


@pytest.mark.parametrize("masker", [each for each, _ in PAIRS] + [EigenCam, FinerCam])
def test_rows_stand_alone_and_the_model_stays_untouched(masker):
    black_box, x = TorchBlackBox(network(), size=32, max_batch_size=2), images()
    with untouched(black_box.model):
        together = masker()(black_box, x, LABELS, generator=Generator())
    alone = [
        masker()(black_box, x[i : i + 1], LABELS[i : i + 1], generator=Generator())
        for i in range(3)
    ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)
