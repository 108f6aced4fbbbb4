"""Gradient maskers against Captum, against the formulas written out, and in batches."""

from dataclasses import replace

import pytest
import torch
from torch import Generator, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core import rng
from saliencykit.core.errors import ContractError, GradientError, InputError
from saliencykit.explanation.explain_images import explain
from saliencykit.maskers.gradient.captum_method import AttributionMasker
from saliencykit.maskers.gradient.input_gradients import (
    Gradient,
    InputXGradient,
    IntegratedGradients,
    SmoothGrad,
)
from saliencykit.maskers.gradient.pixel_attribution import batch_size_of
from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly, small_network

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
LABELS = torch.tensor([2, 0, 1])


def smooth_network():
    """A network without kinks, so that rounding in an optimized copy cannot flip a ReLU."""
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
BLACK_BOX = TorchBlackBox(NET, mean=MEAN, std=STD, size=16)


def images(n=3):
    return torch.rand(n, 3, 16, 16, generator=Generator().manual_seed(1))


def normalized(x):
    mean, std = (torch.tensor(v, dtype=x.dtype).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (x - mean) / std


def attribute(masker, x, labels=LABELS, black_box=BLACK_BOX, seed=0):
    return masker.attribute(black_box, x, labels, generator=Generator().manual_seed(seed))


def largest(maps):
    """The signed value of the channel with the largest magnitude."""
    return maps.gather(1, maps.abs().argmax(1, keepdim=True))


@pytest.mark.parametrize("make", [smooth_network, lambda: small_network().eval()])
@pytest.mark.parametrize(
    ("masker", "name", "options"),
    [
        (Gradient(channels="sum"), "Saliency", {"abs": False}),
        (InputXGradient(), "InputXGradient", {}),
        (IntegratedGradients(), "IntegratedGradients", {}),
        (IntegratedGradients(steps=7), "IntegratedGradients", {"n_steps": 7}),
        (IntegratedGradients(steps=1), "IntegratedGradients", {"n_steps": 1}),
    ],
    ids=["gradient", "input-x-gradient", "integrated-50", "integrated-7", "integrated-1"],
)
def test_results_are_captums_in_double_precision(make, masker, name, options):
    captum = pytest.importorskip("captum.attr")
    net, x = make().double(), images().double()
    theirs = getattr(captum, name)(net).attribute(normalized(x), target=LABELS, **options)
    if name == "Saliency":  # with respect to raw pixels
        theirs = theirs / torch.tensor(STD).view(1, 3, 1, 1)
    theirs = theirs.detach().sum(1, keepdim=True)
    ours = attribute(masker, x, black_box=TorchBlackBox(net, mean=MEAN, std=STD, size=16))
    assert (ours.attributions - theirs).abs().max() < 1e-5 * theirs.abs().max()


def test_gradient_is_the_largest_channel_and_the_mask_its_magnitude():
    x = images().requires_grad_()
    (slope,) = torch.autograd.grad(NET(normalized(x)).gather(1, LABELS[:, None]).sum(), x)
    output = attribute(Gradient(), x.detach())
    assert torch.allclose(output.attributions, largest(slope), atol=1e-6)
    magnitude = slope.abs().amax(1, keepdim=True)
    assert torch.allclose(
        output.mask, magnitude / magnitude.amax((1, 2, 3), keepdim=True), atol=1e-5
    )


def test_input_x_gradient_is_the_product_and_the_mask_its_positive_part():
    x = images().requires_grad_()
    (slope,) = torch.autograd.grad(NET(normalized(x)).gather(1, LABELS[:, None]).sum(), x)
    product = ((x - torch.tensor(MEAN).view(1, 3, 1, 1)) * slope).sum(1, keepdim=True).detach()
    output = attribute(InputXGradient(), x.detach())
    assert torch.allclose(output.attributions, product, atol=1e-6)
    positive = product.clamp_min(0)
    assert torch.allclose(output.mask, positive / positive.amax((1, 2, 3), keepdim=True), atol=1e-5)


def test_integrated_gradients_sum_to_the_difference_of_the_logit():
    with torch.no_grad():
        logits = NET(normalized(images())) - NET(torch.zeros(1, 3, 16, 16))
    sums = attribute(IntegratedGradients(), images()).attributions.sum((1, 2, 3))
    assert torch.allclose(sums, logits.gather(1, LABELS[:, None])[:, 0], atol=1e-3)


@pytest.mark.parametrize("samples", [1, 3, 8, 19])
def test_smoothgrad_is_the_mean_of_gradients_under_the_documented_noise(samples):
    x, masker = images(), SmoothGrad(samples=samples, noise=0.2)
    scores = masker.mask(BLACK_BOX, x, LABELS, Generator().manual_seed(5)).attributions
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
            total += torch.autograd.grad(NET(normalized(noisy))[0, LABELS[row]], noisy)[0]
        assert torch.allclose(scores[row : row + 1], largest(total / samples), atol=1e-5)


def test_the_noise_of_smoothgrad_is_a_fraction_of_the_images_own_range():
    class Slopes(nn.Module):
        def forward(self, x):
            # the gradient of the first logit is the image
            return torch.stack([x.square().sum((1, 2, 3)) / 2, x.sum((1, 2, 3))], 1)

    x = torch.rand(1, 3, 64, 64, generator=Generator().manual_seed(2)) * 0.5 + 0.25
    masker = SmoothGrad(samples=1, noise=0.1, method=Gradient(channels="mean"))
    noisy = attribute(masker, x, torch.tensor([0]), TorchBlackBox(Slopes(), size=64))
    deviation = (noisy.attributions - x.mean(1, keepdim=True)).std() * 3**0.5
    assert abs(float(deviation) / float(0.1 * (x.max() - x.min())) - 1) < 0.05


@pytest.mark.parametrize(
    "masker",
    [SmoothGrad(samples=11), IntegratedGradients(steps=5), InputXGradient(), Gradient()],
    ids=["smoothgrad", "integrated", "input-x-gradient", "gradient"],
)
@pytest.mark.parametrize("max_batch_size", [1, 3, None])
def test_the_mask_of_an_image_depends_on_no_other_image_and_no_batch_size(masker, max_batch_size):
    black_box = TorchBlackBox(NET, mean=MEAN, std=STD, size=16, max_batch_size=max_batch_size)
    batch = attribute(masker, images()).mask
    alone = [
        attribute(masker, images()[i : i + 1], LABELS[i : i + 1], black_box).mask for i in range(3)
    ]
    assert torch.allclose(batch, torch.cat(alone), atol=1e-5)


def test_smoothgrad_averages_other_methods():
    pytest.importorskip("captum")
    of_layer = AttributionMasker(
        method="LayerGradientXActivation", layer="2", channels="sum", sign="positive"
    )
    for method in (of_layer, IntegratedGradients(steps=2)):
        output = attribute(SmoothGrad(samples=2, method=method), images())
        assert output.mask.shape == (3, 1, 16, 16)


def test_black_boxes_without_a_module_are_enough():
    black_box = PlantedEvidence()
    x, labels = black_box.examples(4, generator=Generator().manual_seed(0))
    for masker in (
        Gradient(),
        InputXGradient(),
        IntegratedGradients(steps=5),
        SmoothGrad(samples=4),
    ):
        mask, truth = attribute(masker, x, labels, black_box).mask, black_box.evidence(x, labels)
        share = (mask * truth).sum((1, 2, 3)) / mask.sum((1, 2, 3))
        assert (share > 0.3).all()  # the evidence is 6 % of the image


def test_a_black_box_without_gradients_is_refused_with_a_way_out(black_box, examples):
    with pytest.raises(GradientError, match="query-only"):
        Gradient()(QueryOnly(black_box), *examples, generator=Generator())

    class Detached(nn.Module):
        def forward(self, x):
            return x.detach().mean((2, 3)) + torch.zeros(3, requires_grad=True)

    with pytest.raises(GradientError, match=r"do not depend on the images.*'rise'"):
        attribute(Gradient(), images(), black_box=TorchBlackBox(Detached(), size=16))


def test_a_gradient_that_is_not_finite_names_the_row():
    class Root(nn.Module):
        def forward(self, x):
            return x.mean((2, 3)).sqrt()

    x = images()
    x[1] = 0
    with pytest.raises(ContractError, match="NaN or infinite in row 1 of 3"):
        attribute(Gradient(), x, black_box=TorchBlackBox(Root(), size=16))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IntegratedGradients(steps=0), "steps=0"),
        (lambda: IntegratedGradients(sign="negative"), "'absolute' or 'positive'"),
        (lambda: Gradient(channels="median"), "'max' or 'sum' or 'mean'"),
        (lambda: SmoothGrad(samples=0), "samples=0"),
        (lambda: SmoothGrad(noise=0), "noise=0"),
        (lambda: SmoothGrad(method="gradient"), "takes PixelAttribution, such as Gradient"),
    ],
)
def test_bad_arguments_are_refused_at_construction(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_bfloat16_models_give_finite_masks():
    black_box = TorchBlackBox(smooth_network().to(torch.bfloat16), mean=MEAN, std=STD, size=16)
    for masker in (Gradient(), IntegratedGradients(steps=3), SmoothGrad(samples=2)):
        assert attribute(masker, images(), black_box=black_box).mask.isfinite().all()


def test_attributions_by_channel_are_signed_and_reduce_to_the_scores():
    black_box, x = TorchBlackBox(small_network(), size=16), torch.rand(2, 3, 16, 16)
    for masker in (
        Gradient(), InputXGradient(), IntegratedGradients(steps=4), SmoothGrad(samples=3)
    ):  # fmt: skip
        output = masker.attribute(black_box, x, torch.tensor([3, 0]), generator=Generator())
        by_channel = output.channel_attributions
        assert by_channel.shape == x.shape
        assert by_channel.min() < 0 < by_channel.max()
        wanted = by_channel.sum(1, keepdim=True)
        if masker in (Gradient(), SmoothGrad(samples=3)):
            wanted = by_channel.gather(1, by_channel.abs().argmax(1, keepdim=True))
        assert torch.allclose(output.attributions, wanted)


def test_attributions_by_channel_come_back_from_explain_and_from_disk(tmp_path):
    x = torch.rand(2, 3, 16, 16)
    explanation = explain(TorchBlackBox(small_network(), size=16), x, 1, masker="gradient")
    assert explanation.channel_attributions.shape == x.shape
    loaded = type(explanation).load(explanation.save(tmp_path))
    assert torch.equal(loaded.channel_attributions, explanation.channel_attributions)


def test_on_a_cpu_few_large_images_are_backpropagated_at_once():
    black_box = TorchBlackBox(small_network(), size=16)
    for side, most, wanted in ((16, None, 32), (16, 5, 5), (224, None, 2), (512, None, 1)):
        box = replace(black_box, max_batch_size=most)
        assert batch_size_of(box, torch.zeros(1, 3, side, side)) == wanted
