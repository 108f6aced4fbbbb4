"""Guided backpropagation and deconvolution against Captum and against the rule written out."""

import captum.attr
import pytest
import torch
import torch.nn.functional as F
from torch import Generator, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import GradientError, InputError
from saliencykit.maskers.gradient.guided_backprop import (
    GuidedGradCam,
    RectifiedGradient,
    deconvolution,
    guided_backprop,
)
from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly, small_network
from saliencykit.testing.unchanged import untouched
from tests.helpers import fixed

pytestmark = pytest.mark.filterwarnings("ignore:.*(hooks|require).*:UserWarning")
LABELS = torch.tensor([2, 0, 1])
METHODS = {"guided": captum.attr.GuidedBackprop, "deconvolution": captum.attr.Deconvolution}


def images(side=16):
    return torch.rand(3, 3, side, side, generator=Generator().manual_seed(1))


def exactly(build):
    """The seeded model in float64: no rounding flips a ReLU."""
    return fixed(build).double()


def scores(model, rule="guided", x=None, **options):
    black_box = TorchBlackBox(model, size=16 if x is None else x.shape[-1], **options)
    masker = RectifiedGradient(rule=rule, channels="sum")
    return masker.attribute(
        black_box, images() if x is None else x, LABELS, generator=Generator()
    ).attributions


class Rule(torch.autograd.Function):
    """The two rules at one ReLU, as in figure 1 of Springenberg et al."""

    @staticmethod
    def forward(ctx, x, rule):
        ctx.save_for_backward(x)
        ctx.rule = rule
        return x * (x > 0)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return (grad * (grad > 0) * (x > 0) if ctx.rule == "guided" else grad * (grad > 0)), None


class Net(nn.Module):
    """ReLUs called in a given way; a skip goes around one of them."""

    def __init__(self, relu):
        super().__init__()
        self.first, self.second, self.head = (
            nn.Conv2d(3, 6, 3, stride=2),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.Linear(294, 4),
        )
        self.relu = relu

    def forward(self, x):
        x = self.first(x)
        x = self.second(self.relu(x.clone())) + x
        return self.head(self.relu(x).flatten(1))


class Written(nn.Module):
    """An activation written by hand."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def in_place_without_using_the_result(x):
    F.relu_(x)
    return x


def assigned(x):
    x = x.clone()
    x[x < 0] = 0
    return x


CALLS = {
    "module": nn.ReLU(),
    "in place": nn.ReLU(inplace=True),
    "functional": F.relu,
    "functional in place": lambda x: F.relu(x, True),
    "torch": torch.relu,
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
    "result unused": in_place_without_using_the_result,
    "clamp": lambda x: x.clamp(min=0),
    "clamp in place": lambda x: x.clamp_min_(0),
    "maximum": lambda x: torch.maximum(x, torch.zeros((), dtype=x.dtype)),
    "max of two": lambda x: torch.max(x, torch.zeros_like(x)),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "product with a mask": lambda x: x * (x > 0),
    "product with numbers": lambda x: (x > 0).to(x.dtype) * x,
    "masked_fill": lambda x: x.masked_fill(x < 0, 0),
    "assignment": assigned,
    "maximum of a stack": lambda x: torch.stack([x, torch.zeros_like(x)]).amax(0),
    "maximum of joined views": lambda x: torch.cat([x[None], torch.zeros_like(x)[None]]).amax(0),
    "larger of two, sorted": lambda x: torch.stack([x, 0 * x], -1).sort(-1).values[..., 1],
    "chosen": lambda x: torch.gather(torch.stack([0 * x, x]), 0, (x > 0).long()[None])[0],
    "einsum": lambda x: torch.einsum("bchw,bchw->bchw", x, (x > 0).to(x.dtype)),
    "index_put": lambda x: torch.index_put(x, (x < 0,), torch.zeros((), dtype=x.dtype)),
    "two bounds": lambda x: torch.minimum(x.clamp_min(0), torch.tensor(1e6, dtype=x.dtype)),
}


@pytest.mark.parametrize("rule", METHODS)
@pytest.mark.parametrize("call", CALLS)
def test_the_rule_at_every_relu_however_it_is_called(rule, call):
    model = exactly(lambda: Net(CALLS[call]))
    reference = exactly(lambda: Net(lambda x: Rule.apply(x, rule)))
    x = images().double().requires_grad_()
    (expected,) = torch.autograd.grad(reference(x).gather(1, LABELS[:, None]).sum(), x)
    ours = scores(model, rule, x.detach())
    assert torch.allclose(ours, expected.sum(1, keepdim=True), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", METHODS)
def test_no_gradient_passes_relu6_where_it_is_flat(rule):
    class Ceiling(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clamp(0, 6)

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad.clamp_min(0) * (((x > 0) & (x < 6)) if rule == "guided" else 1.0)

    for relu in (nn.ReLU6(), nn.ReLU6(inplace=True), F.relu6, lambda x: F.hardtanh(x, 0, 6)):
        model = exactly(lambda: Net(relu))  # noqa: B023
        reference = exactly(lambda: Net(Ceiling.apply))
        x = (20 * images().double()).requires_grad_()
        (expected,) = torch.autograd.grad(reference(x).gather(1, LABELS[:, None]).sum(), x)
        ours = scores(model, rule, x.detach())
        assert torch.allclose(ours, expected.sum(1, keepdim=True), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", METHODS)
@pytest.mark.parametrize("build", ["resnet18", "squeezenet1_1", "small"])
def test_results_are_captums_where_relus_are_modules(rule, build):
    from torchvision import models

    large = getattr(models, build, None)
    model = exactly(small_network if build == "small" else lambda: large(num_classes=4))
    x = images(32 if build != "small" else 16).double()
    theirs = METHODS[rule](model).attribute(x.clone(), target=LABELS).sum(1, keepdim=True)
    ours = scores(model, rule, x)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-10 * float(theirs.abs().max()))
    assert theirs.abs().max() > 0


def test_guided_grad_cam_is_captums():
    model, x = exactly(small_network), images().double()
    made = captum.attr.GuidedGradCam(model, model[4])
    theirs = (
        made.attribute(x.clone(), target=LABELS, interpolate_mode="bilinear")
        .sum(1, keepdim=True)
        .detach()
    )
    black_box = TorchBlackBox(model, size=16)
    output = GuidedGradCam(channels="sum").attribute(black_box, x, LABELS, generator=Generator())
    size = theirs.abs()
    assert torch.allclose(output.attributions, theirs, rtol=0, atol=1e-10 * float(size.max()))
    expected = size / size.amax((1, 2, 3), keepdim=True).clamp_min(1e-30)
    assert torch.allclose(output.mask, expected, rtol=0, atol=1e-8)
    named = GuidedGradCam(layer="0").attribute(black_box, x, LABELS, generator=Generator())
    assert not torch.allclose(named.mask, output.mask)


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        (nn.GELU(), "also has Gelu"),
        (nn.SiLU(), "also has Silu"),
        (nn.Hardswish(), "also has Hardswish"),
        (nn.LeakyReLU(), "also has LeakyRelu"),
        (nn.PReLU(), "also has Prelu"),
        (nn.RReLU(), "also has Rrelu"),
        (nn.Softshrink(), "also has Softshrink"),
        (nn.Threshold(0.1, 0.0), "also has .* '_threshold'"),
        (lambda x: torch.logaddexp(x, torch.zeros(())), "also has Logaddexp"),
        (nn.Tanh(), "calls no ReLU"),
        (
            lambda x: x * torch.sigmoid(x),
            r"also has an activation of its own \(written with 'mul'\)",
        ),
        (lambda x: x / (1 + torch.exp(-1.702 * x)), "also has an activation .* 'div'"),
        (lambda x: x * (x + 3).clamp(0, 6) / 6, "also has an activation .* 'mul'"),
        (lambda x: x * torch.tanh(F.softplus(x)), "also has Softplus"),
        (lambda x: torch.where(x > 0, x, 0.1 * x), "also has an activation .* 'where'"),
        (lambda x: torch.maximum(x, 0.1 * x), "also has an activation .* 'maximum'"),
        (lambda x: x.clamp(-0.1, 0.1), "also has an activation .* 'clamp'"),
        (lambda x: torch.stack([x, 0.1 * x]).amax(0), "also has .* 'amax'"),
        (lambda x: torch.stack([x, torch.zeros(x.shape)]).max(0)[0], "also has .* 'max'"),
        (lambda x: torch.stack([x, 0 * x]).logsumexp(0), "also has .* 'logsumexp'"),
        (lambda x: torch.log1p(x.exp()), "also has .* '(exp|log1p)'"),
        (lambda x: torch.erf(x) + x, "also has .* 'erf'"),
        (lambda x: F.relu(x) ** 2, "also has .* 'pow'"),
        (lambda x: F.glu(torch.cat([x, x], 1), 1), "also has Glu"),
        (lambda x: (x + x.abs()) / 2, "also has Abs"),
        (lambda x: Rule.apply(x, "guided"), r"also has an autograd function of its own \(Rule\)"),
    ],
)
def test_models_without_relus_or_with_other_activations_are_refused(activation, message):
    with pytest.raises(InputError, match=f"{message}.*. Use masker='gradient'"):
        scores(fixed(lambda: Net(activation)))
    mixed = fixed(
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3),
            activation if isinstance(activation, nn.Module) else Written(activation),
            nn.Flatten(),
            nn.Linear(576, 4),
        )
    )
    if "also" in message:
        with pytest.raises(InputError, match=message):
            scores(mixed)
    else:
        assert scores(mixed).any()  # the rule is not needed at a Tanh


@pytest.mark.parametrize(
    "linear",
    [
        lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
        lambda x: x * torch.sigmoid(F.avg_pool2d(x, 3, 1, 1)),
        lambda x: x.clamp(-1e6, 1e6),
        lambda x: x.masked_fill(torch.eye(x.shape[-1], dtype=torch.bool), 0),
        lambda x: F.normalize(x),
        lambda x: x + F.relu(x),
        lambda x: x * torch.rsqrt((x * x).mean((1, 2, 3), keepdim=True)),
        lambda x: (x.clamp(min=1e-6) ** 3).mean((2, 3), keepdim=True) ** (1 / 3) + x,
        lambda x: torch.stack([x, 2 * x]).mean(0),
        lambda x: torch.cat([x, 2 * x], 1)[:, 6:].chunk(1)[0],
    ],
)
def test_gates_bounds_that_are_not_reached_and_masks_are_no_activations(linear):
    assert scores(fixed(lambda: Net(lambda x: F.relu(linear(x))))).any()


def test_models_whose_relus_cannot_be_intercepted_are_refused():
    script = torch.jit.trace(fixed(lambda: Net(nn.ReLU())), images()[:1])
    with pytest.raises(InputError, match="rules for ReLUs, and"):
        scores(script)


def test_black_boxes_without_relus_or_gradients_are_refused():
    planted = PlantedEvidence()
    x, labels = planted.examples(2, generator=Generator().manual_seed(0))
    with pytest.raises(InputError, match="calls no ReLU"):
        guided_backprop()(planted, x, labels, generator=Generator())
    with pytest.raises(GradientError):
        deconvolution()(QueryOnly(planted), x, labels, generator=Generator())


@pytest.mark.parametrize("limit", [1, 2])
def test_results_do_not_depend_on_the_batch_size_and_the_model_is_unchanged(limit):
    model = small_network().train()
    whole = scores(model)
    with untouched("RectifiedGradient", model):
        assert torch.allclose(scores(model, max_batch_size=limit), whole, atol=1e-6)


def test_bfloat16_models_give_finite_scores():
    assert scores(small_network().eval().to(torch.bfloat16)).isfinite().all()


@pytest.mark.parametrize("wrong", [{"rule": "both"}, {"sign": "up"}, {"channels": "all"}])
def test_bad_arguments_are_refused_at_construction(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        RectifiedGradient(**wrong)
