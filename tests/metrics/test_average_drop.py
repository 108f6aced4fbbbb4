import numpy as np
import pytest
import torch

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.constant import Constant
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.metrics.average_drop import AverageDrop
from saliencykit.testing.black_boxes import small_network


@pytest.mark.parametrize("metric", [AverageDrop(), AverageDrop(alternative=Blur(sigma=2.0))])
def test_it_equals_a_slow_reference(metric, weighing, scores_of, some):
    images, labels, maps = some
    fills = metric.alternative.for_black_box(weighing)(images, generator=torch.Generator()).numpy()
    got = scores_of(metric, weighing, images, labels, maps)
    for i in range(4):
        image, mask = images[i].numpy(), maps[i, 0].numpy()
        p, o = (
            weighing.p(image, labels[i]),
            weighing.p(image * mask + fills[i] * (1 - mask), labels[i]),
        )
        expected = {
            "drop": max(0, p - o) / p,
            "increase": float(o > p),
            "gain": max(0, o - p) / (1 - p),
            "area": mask.mean(),
        }
        assert {name: value[i].item() for name, value in got.items()} == pytest.approx(
            expected, abs=1e-9
        )
    assert {0.0, 1.0} == set(got["increase"].tolist())


def test_the_whole_image_loses_and_gains_nothing(weighing, scores_of, some):
    got = scores_of(AverageDrop(), weighing, some[0], some[1], torch.ones_like(some[2]))
    assert [got[name].abs().max().item() for name in ("drop", "increase", "gain")] == [0, 0, 0]
    assert got["area"].tolist() == [1] * 4


def test_probabilities_of_0_and_1_give_finite_scores(weighing, scores_of, some):
    weighing.weights = weighing.weights * 1e4
    got = scores_of(AverageDrop(), weighing, *some)
    assert all(
        bool(value.isfinite().all()) and value.min() >= 0 and value.max() <= 1
        for value in got.values()
    )


def test_only_an_alternative_is_accepted():
    with pytest.raises(InputError, match="AverageDrop"):
        AverageDrop(alternative=0.5)


def test_it_equals_pytorch_grad_cam(scores_of):
    """Their drop is a difference of probabilities, ours a share of the first; the edit is the same
    for black as 0.
    """
    theirs = pytest.importorskip("pytorch_grad_cam.metrics.cam_mult_image")
    model = small_network().eval()
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(4, 3, 16, 16, generator=generator), torch.tensor([0, 1, 2, 3])
    maps = torch.rand(4, 1, 16, 16, generator=generator)
    targets = [lambda z, c=c: z.softmax(0)[c] for c in labels.tolist()]
    arguments = {
        "input_tensor": images,
        "cams": maps[:, 0].numpy(),
        "targets": targets,
        "model": model,
    }
    ours = scores_of(
        AverageDrop(alternative=Constant(color=0.0)),
        TorchBlackBox(model, size=16),
        images,
        labels,
        maps,
    )
    with torch.no_grad():
        p = model(images).softmax(1)[torch.arange(4), labels].numpy()
    assert np.allclose(ours["drop"].numpy() * p, theirs.DropInConfidence()(**arguments), atol=1e-6)
    assert np.array_equal(ours["increase"].numpy(), theirs.IncreaseInConfidence()(**arguments))
