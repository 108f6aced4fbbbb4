import numpy as np
import pytest
import torch

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core import rng
from saliencykit.core.errors import InputError
from saliencykit.metrics.linear_imputation import impute
from saliencykit.metrics.road import RemoveAndDebias
from saliencykit.testing.black_boxes import small_network


def test_it_equals_a_slow_reference(weighing, scores_of, some, chosen):
    """One edit at a time; that the imputation solves the published system is tested in
    test_imputing.py.
    """
    images, labels, maps = some
    metric = RemoveAndDebias(fractions=(0.1, 0.45, 0.9))
    grain = rng.normal(
        images, (3, 11, 14), generator=torch.Generator().manual_seed(0), std=0.01
    ).numpy()
    got = scores_of(metric, weighing, images, labels, maps)
    for i in range(4):
        expected = {}
        for name in ("morf", "lerf"):
            answers, right = [], []
            for share in metric.fractions:
                removed = round(share * 154)
                values = maps[i, 0].numpy()
                kept = (
                    1 - chosen(values, removed) if name == "morf" else chosen(values, 154 - removed)
                )
                fill = impute(images[i : i + 1], torch.from_numpy(kept)[None, None] == 1)[0].numpy()
                edit = np.where(kept == 1, images[i].numpy(), fill + grain[i])
                answers.append(weighing.p(edit, labels[i]))
                right.append(weighing.top(edit) == labels[i])
            expected[name], expected[f"{name}_accuracy"] = np.mean(answers), np.mean(right)
        expected["gap"] = expected["lerf"] - expected["morf"]
        assert {name: value[i].item() for name, value in got.items()} == pytest.approx(
            expected, abs=1e-9
        )


def test_the_evidence_scores_higher_than_its_complement(black_box, examples, scores_of):
    images, labels = examples
    truth = black_box.evidence(images, labels)
    assert bool((scores_of(RemoveAndDebias(), black_box, images, labels, truth)["gap"] > 0.5).all())
    assert bool(
        (scores_of(RemoveAndDebias(), black_box, images, labels, 1 - truth)["gap"] < -0.5).all()
    )


def test_the_noise_depends_on_image_and_seed(weighing, scores_of, some):
    images, labels, maps = some
    one, same, other = (
        scores_of(RemoveAndDebias(noise=0.3), weighing, images, labels, maps, seed)["morf"]
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("wrong", [{"fractions": (0.5, 0.1)}, {"fractions": ()}, {"noise": -1.0}])
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(InputError, match="RemoveAndDebias"):
        RemoveAndDebias(**wrong)


def test_it_equals_pytorch_grad_cam(scores_of):
    """Their gap is half of ours. Their noise differs each time, and their thresholds are
    percentiles: close, not equal.
    """
    theirs = pytest.importorskip("pytorch_grad_cam.metrics.road")
    model = small_network().eval()
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(4, 3, 16, 16, generator=generator), torch.tensor([0, 1, 2, 3])
    images[..., :8] = images.mean((2, 3), keepdim=True)
    maps = torch.rand(4, 1, 16, 16, generator=generator)
    targets = [lambda z, c=c: z.softmax(0)[c] for c in labels.tolist()]
    found = theirs.ROADCombined()(images, maps[:, 0].numpy(), targets, model)
    ours = scores_of(RemoveAndDebias(), TorchBlackBox(model, size=16), images, labels, maps)["gap"]
    assert np.allclose(ours.numpy() / 2, found, atol=0.003)
