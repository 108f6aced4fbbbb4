"""explain_func: what Quantus calls, and query-only black boxes as models."""

import sys

import numpy as np
import pytest
import torch
from torch import Generator

import saliencykit
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import GradientError, InputError
from saliencykit.integrations.quantus import BlackBoxModule, explain_func
from saliencykit.registry.coerce import as_masker
from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly, small_network
from saliencykit.testing.unchanged import untouched

X = torch.randn(3, 3, 16, 16, generator=Generator().manual_seed(1)).numpy()
TARGETS = np.array([3, 0, 1])


@pytest.mark.parametrize("name", ["gradient", "occlusion:window=6", "grad-cam", "rise:samples=30"])
def test_the_map_is_the_maskers(name):
    net = small_network()
    with untouched(name, net):
        answer = explain_func(model=net, inputs=X, targets=TARGETS, masker=name, device="cpu")
    wanted = as_masker(name)(
        TorchBlackBox(net, size=16),
        torch.from_numpy(X),
        torch.from_numpy(TARGETS),
        generator=Generator().manual_seed(0),
    )
    assert isinstance(answer, np.ndarray)
    assert answer.dtype == np.float32
    assert np.allclose(answer, wanted.numpy(), atol=1e-6)


def test_rows_do_not_depend_on_the_batch_and_float64_stays():
    net = small_network()
    together = explain_func(
        net, np.concatenate([X] * 6), np.concatenate([TARGETS] * 6), masker="rise:samples=30"
    )
    alone = explain_func(net, X[1:2], TARGETS[1], masker="rise:samples=30")
    assert np.allclose(alone, together[1:2], atol=1e-4)
    assert np.allclose(together[1], together[16], atol=1e-4)
    other = explain_func(net, X[1:2], TARGETS[1], masker="rise:samples=30", seed=1)
    assert not np.allclose(other, alone)
    assert (
        explain_func(net.double(), X.astype(np.float64), TARGETS[:, None], masker="gradient").dtype
        == np.float64
    )


def test_attributions_are_signed():
    net = small_network()
    assert (
        explain_func(net, X, TARGETS, masker="occlusion:window=6", values="attributions").min() < 0
    )
    with pytest.raises(InputError, match="CenterBox gives a mask only"):
        explain_func(net, X, TARGETS, masker="center-box", values="attributions")


def test_with_statistics_the_masker_sees_raw_pixels():
    net, raw = small_network(), np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    x = (raw - np.array(mean, np.float32)[:, None, None]) / np.array(std, np.float32)[:, None, None]
    answer = explain_func(net, x, np.array([1, 2]), masker="occlusion:window=6", mean=mean, std=std)
    black_box = TorchBlackBox(net, mean=mean, std=std)
    theirs = saliencykit.explain(
        black_box, torch.from_numpy(raw), [1, 2], masker="occlusion:window=6"
    ).mask
    assert np.allclose(answer, theirs.numpy(), atol=1e-4)


def test_query_only_black_boxes_are_models():
    black_box = PlantedEvidence()
    images, labels = black_box.examples(4, generator=Generator().manual_seed(0))
    model = BlackBoxModule(QueryOnly(black_box))
    answer = explain_func(
        model, images.numpy(), labels.numpy(), masker="occlusion:window=4,stride=2"
    )
    inside = black_box.evidence(images, labels).bool().numpy()
    assert answer[inside].mean() > 5 * answer[~inside].mean()
    with pytest.raises(GradientError, match="query-only"):
        explain_func(model, images.numpy(), labels.numpy(), masker="gradient")


def test_a_trained_masker_is_accepted():
    black_box = saliencykit.registry.coerce.as_black_box("demo")
    raw = np.random.default_rng(0).random((2, 3, *black_box.input_size), dtype=np.float32)
    assert explain_func(BlackBoxModule(black_box), raw, 1, masker="demo").shape == (
        2,
        1,
        *black_box.input_size,
    )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"values": "map"}, "'mask' or 'attributions'"),
        ({"targets": TARGETS[:2]}, "2 targets for 3 inputs"),
        ({"inputs": X[0]}, r"float tensor \(B, C, H, W\)"),
        ({"mean": (0.5,), "std": (0.5,)}, "1 and 1 channels"),
    ],
)
def test_bad_arguments_are_refused(wrong, says):
    given = {"inputs": X, "targets": TARGETS, "masker": "occlusion:window=6"} | wrong
    with pytest.raises(InputError, match=says):
        explain_func(small_network(), **given)


def test_neither_quantus_nor_captum_is_imported():
    assert "quantus" not in sys.modules


def test_quantus_metrics_run_on_modules_and_query_only_black_boxes():
    quantus = pytest.importorskip("quantus")
    black_box = PlantedEvidence()
    images, labels = black_box.examples(4, generator=Generator().manual_seed(0))
    segments = black_box.evidence(images, labels).numpy()
    query = {
        "explain_func": explain_func,
        "explain_func_kwargs": {"masker": "occlusion:window=4,stride=2"},
        "softmax": True,
    }
    given = {
        "x_batch": images.numpy(),
        "y_batch": labels.numpy(),
        "s_batch": segments,
        "device": "cpu",
    }
    for model in (BlackBoxModule(QueryOnly(black_box)), small_network().eval()):
        pointing = quantus.PointingGame(disable_warnings=True)(model=model, **given, **query)
        sparse = quantus.Sparseness(disable_warnings=True)(model=model, **given, **query)
        flips = quantus.PixelFlipping(features_in_step=32, disable_warnings=True)(
            model=model, **given, **query
        )
        assert len(pointing) == len(sparse) == len(flips) == 4
        if isinstance(model, BlackBoxModule):
            assert all(np.ravel(pointing))
