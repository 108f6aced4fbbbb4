"""The gradient methods by name: Captum's numbers, the formulas written out, and batches of noise."""

import pytest
import torch
from captum.attr import IntegratedGradients, Saliency
from torch import Generator, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core import rng
from saliencykit.core.errors import InputError
from saliencykit.maskers.gradient.captum_gradients import (
    SmoothGrad,
    gradient,
    input_x_gradient,
    integrated_gradients,
)
from saliencykit.maskers.gradient.captum_method import AttributionMasker
from saliencykit.testing.black_boxes import PlantedEvidence

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
LABELS = torch.tensor([2, 0, 1])


def smooth_network():
    """No kinks, so that a frozen copy's rounding cannot flip a ReLU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunk = (
            nn.Conv2d(3, 6, 3),
            nn.BatchNorm2d(6),
            nn.Tanh(),
            nn.Conv2d(6, 6, 3, stride=2),
            nn.BatchNorm2d(6),
            nn.Tanh(),
        )
        return nn.Sequential(*trunk, nn.Flatten(), nn.Linear(216, 3)).eval()


NET = smooth_network()
BOX = TorchBlackBox(NET, mean=MEAN, std=STD, size=16)


def images(n=3):
    return torch.rand(n, 3, 16, 16, generator=Generator().manual_seed(1))


def normalised(x):
    return (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def find(masker, x, labels=LABELS, black_box=BOX, seed=0):
    return masker.attribute(black_box, x, labels, generator=Generator().manual_seed(seed))


def largest(maps):
    """The signed value of the channel with the largest magnitude."""
    return maps.gather(1, maps.abs().argmax(1, keepdim=True))


def test_gradient_is_captums_and_the_mask_its_magnitude():
    x = images()
    theirs = Saliency(lambda raw: NET(normalised(raw))).attribute(
        x.clone(), target=LABELS, abs=False
    )
    answer = find(gradient(), x)
    assert torch.allclose(answer.attributions, largest(theirs), atol=1e-6)
    magnitude = (
        Saliency(lambda raw: NET(normalised(raw)))
        .attribute(x.clone(), target=LABELS)
        .amax(1, keepdim=True)
    )
    assert torch.allclose(
        answer.mask, magnitude / magnitude.amax((1, 2, 3), keepdim=True), atol=1e-5
    )


def test_input_x_gradient_is_the_product_and_the_mask_its_positive_part():
    x = images().requires_grad_()
    (slope,) = torch.autograd.grad(NET(normalised(x)).gather(1, LABELS[:, None]).sum(), x)
    product = ((x - torch.tensor(MEAN).view(1, 3, 1, 1)) * slope).sum(1, keepdim=True).detach()
    answer = find(input_x_gradient(), x.detach())
    assert torch.allclose(answer.attributions, product, atol=1e-6)
    positive = product.clamp_min(0)
    assert torch.allclose(answer.mask, positive / positive.amax((1, 2, 3), keepdim=True), atol=1e-5)


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_integrated_gradients_are_captums(steps):
    theirs = (
        IntegratedGradients(NET)
        .attribute(normalised(images()), target=LABELS, n_steps=steps)
        .sum(1, keepdim=True)
    )
    answer = find(integrated_gradients(steps=steps), images())
    assert torch.allclose(
        answer.attributions, theirs.float(), atol=1e-4 * float(theirs.abs().max())
    )


def test_integrated_gradients_sum_to_the_logits_difference():
    with torch.no_grad():
        difference = (NET(normalised(images())) - NET(torch.zeros(1, 3, 16, 16))).gather(
            1, LABELS[:, None]
        )[:, 0]
    assert torch.allclose(
        find(integrated_gradients(), images()).attributions.sum((1, 2, 3)), difference, atol=1e-3
    )


@pytest.mark.parametrize("samples", [1, 3, 8, 19])
def test_smoothgrad_is_the_mean_of_gradients_under_the_documented_noise(samples):
    x, masker = images(), SmoothGrad(samples=samples, noise=0.2)
    scores = masker.mask(BOX, x, LABELS, Generator().manual_seed(5)).attributions
    seed = rng.fork(Generator().manual_seed(5)).initial_seed()
    for row in range(3):
        generator, noises = Generator().manual_seed(seed), []
        std = 0.2 * float(x[row].max() - x[row].min())
        while sum(map(len, noises)) < samples:
            noises.append(
                rng.normal(x[row : row + 1], (8, 3, 16, 16), generator=generator, std=std)[0]
            )
        noise = torch.cat(noises)[:samples]
        total = torch.zeros(1, 3, 16, 16)
        for one in noise:
            noisy = (x[row : row + 1] + one).requires_grad_()
            total += torch.autograd.grad(NET(normalised(noisy))[0, LABELS[row]], noisy)[0]
        assert torch.allclose(scores[row : row + 1], largest(total / samples), atol=1e-5)


def test_smoothgrads_noise_is_a_share_of_the_pictures_own_range():
    class Slopes(nn.Module):
        def forward(self, x):
            # the first one's gradient is the picture
            return torch.stack([x.square().sum((1, 2, 3)) / 2, x.sum((1, 2, 3))], 1)

    x = torch.rand(1, 3, 64, 64, generator=Generator().manual_seed(2)) * 0.5 + 0.25
    black_box = TorchBlackBox(Slopes(), size=64)
    noisy = find(
        SmoothGrad(
            samples=1, noise=0.1, method=AttributionMasker(options={"abs": False}, channels="mean")
        ),
        x,
        torch.tensor([0]),
        black_box,
    )
    deviation = (noisy.attributions - x.mean(1, keepdim=True)).std() * 3**0.5
    assert abs(float(deviation) / float(0.1 * (x.max() - x.min())) - 1) < 0.05


@pytest.mark.parametrize(
    "masker",
    [SmoothGrad(samples=11), integrated_gradients(steps=5), gradient()],
    ids=["smooth", "ig", "gradient"],
)
@pytest.mark.parametrize("limit", [1, 3, None])
def test_a_pictures_mask_does_not_depend_on_its_batch_or_the_boxs_limit(masker, limit):
    black_box = TorchBlackBox(NET, mean=MEAN, std=STD, size=16, max_batch=limit)
    together = find(masker, images()).mask
    alone = [find(masker, images()[i : i + 1], LABELS[i : i + 1], black_box).mask for i in range(3)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def test_smoothgrad_of_a_layer_and_of_integrated_gradients():
    of = AttributionMasker(
        method="LayerGradientXActivation", layer="2", channels="sum", sign="positive"
    )
    assert find(SmoothGrad(samples=2, method=of), images()).mask.shape == (3, 1, 16, 16)
    assert find(
        SmoothGrad(samples=2, method=integrated_gradients(steps=2)), images()
    ).mask.shape == (
        3,
        1,
        16,
        16,
    )


def test_boxes_without_a_module_are_enough():
    black_box = PlantedEvidence()
    x, labels = black_box.examples(4, generator=Generator().manual_seed(0))
    for masker in (
        gradient(),
        input_x_gradient(),
        integrated_gradients(steps=5),
        SmoothGrad(samples=4),
    ):
        mask, truth = find(masker, x, labels, black_box).mask, black_box.evidence(x, labels)
        assert (
            (mask * truth).sum((1, 2, 3)) / mask.sum((1, 2, 3)) > 0.3
        ).all()  # the patch is 6 % of the picture


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: integrated_gradients(steps=0), "steps=0"),
        (lambda: SmoothGrad(samples=0), "samples=0"),
        (lambda: SmoothGrad(noise=0), "noise=0"),
        (lambda: SmoothGrad(method="gradient"), "an AttributionMasker"),
    ],
)
def test_bad_numbers_are_refused_at_once(make, says):
    with pytest.raises(InputError, match=says):
        make()


def test_bfloat16_models():
    black_box = TorchBlackBox(smooth_network().to(torch.bfloat16), mean=MEAN, std=STD, size=16)
    for masker in (gradient(), integrated_gradients(steps=3), SmoothGrad(samples=2)):
        assert find(masker, images(), black_box=black_box).mask.isfinite().all()
