"""The suites must catch what they promise to catch: each breach below is one that real implementations commit."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core import draw
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import ContractError, InputError, SaliencyKitError
from saliencykit.core.masker import Found, Masker
from saliencykit.core.metric import Metric
from saliencykit.core.objective import Term
from saliencykit.maskers.boxes import CentreBox
from saliencykit.testing.boxes import PlantedEvidence, QueryOnly
from saliencykit.testing.contracts import CHECKS, check_alternative, check_black_box, check_masker, check_metric, check_term

X = PlantedEvidence().examples(4, generator=torch.Generator().manual_seed(0))[0]


class Fill(Alternative):
    def __init__(self, fill, uses_mask=False):
        self.given, self.uses_mask = fill, uses_mask

    def fill(self, images, generator, mask=None):
        return self.given(images, generator, mask)


def in_place(x, g, m):
    return x.mul_(0.5)


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (lambda x, g, m: x[:, :1], "expected the images' own"),
        (lambda x, g, m: x / 0, "NaN or infinite"),
        (lambda x, g, m: torch.rand(x.shape, dtype=x.dtype), "changed the random state of torch"),
        (lambda x, g, m: x * 0 + np.random.rand(), "changed the random state of numpy"),
        (lambda x, g, m: torch.rand(x.shape, generator=g, dtype=x.dtype), "depends on that image alone, not on the batch"),
        (lambda x, g, m: x.mean(0, keepdim=True).expand_as(x), "depends on that image alone"),
        (lambda x, g, m: x + 0 * torch.rand(len(x), generator=g).sum(), "moves on by the same amount"),
        (lambda x, g, m: x if m is None else x * m, "uses_mask=False ignores the mask"),
        (in_place, "changed images"),
    ],
)
def test_alternatives_that_break_their_contract(fill, words):
    with pytest.raises(SaliencyKitError, match=words):
        check_alternative(Fill(fill))


def test_an_alternative_whose_edit_is_wrong():
    class Wrong(Fill):
        def edit(self, images, mask, generator):
            return images * 0

    with pytest.raises(ContractError, match=r"edit with a mask of ones gives the images; got a difference of"):
        check_alternative(Wrong(lambda x, g, m: x))


def test_a_good_random_alternative_passes():
    check_alternative(Fill(lambda x, g, m: draw.uniform(x, tuple(x.shape[1:]), generator=g)))
    check_alternative(Fill(lambda x, g, m: x * (1 - m) if m is not None else x * 0, uses_mask=True))


def term(penalty, *, logits=True):
    @dataclass(frozen=True, kw_only=True)
    class Given(Term):
        reads_logits = logits

        def penalty(self, trial):
            return penalty(trial)

    return Given()


@pytest.mark.parametrize(
    ("penalty", "words"),
    [
        (lambda t: t.mask.mean(), "expected one float per image"),
        (lambda t: t.mask.mean((1, 2, 3)).log(), "NaN or infinite"),
        (lambda t: t.mask.mean((1, 2, 3)) - t.mask.mean(), "depends on that image alone"),
        (lambda t: torch.rand(len(t.mask)), "changed the random state of torch"),
        (lambda t: t.mask.mean((1, 2, 3)).detach(), "is differentiable with respect to the mask"),
        (lambda t: t.mask.mul_(0.5).mean((1, 2, 3)), "changed mask"),
        (lambda t: t.mask.sqrt().mean((1, 2, 3)), "the gradient is finite"),
    ],
)
def test_terms_that_break_their_contract(penalty, words):
    with pytest.raises(SaliencyKitError, match=words):
        check_term(term(penalty))


def test_a_term_that_reads_logits_must_say_so():
    def reads(trial):
        return trial.mask.mean((1, 2, 3)) + trial.preserved[:, 0]

    check_term(term(reads))
    with pytest.raises(ContractError, match="reads_logits=False does not look at the logits"):
        check_term(term(reads, logits=False))


class Mask(Masker):
    def __init__(self, mask, needs_gradient=False):
        self.given, self.needs_gradient = mask, needs_gradient

    def mask(self, black_box, images, labels, generator):
        return self.given(black_box, images, labels, generator)


def slope(box, x, y, g):
    x = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(box(x).gather(1, y[:, None]).sum(), x)
    return F.normalize(gradient.abs().amax(1, keepdim=True).flatten(1), float("inf"), 1).view_as(x[:, :1])


def trains(box, x, y, g):
    if isinstance(box, TorchBlackBox):
        box.model.eval()
    return x[:, :1]


def hooks(box, x, y, g):
    if isinstance(box, TorchBlackBox):
        box.model[0].register_forward_hook(lambda *a: None)
    return x[:, :1]


def backward(box, x, y, g):
    with torch.enable_grad():
        box(x).sum().backward()
    return x[:, :1]


class Remembers(Masker):
    seen = 0

    def mask(self, black_box, images, labels, generator):
        type(self).seen += 1
        return images[:, :1] * 0 + 1 / self.seen


@pytest.mark.parametrize(
    ("masker", "words"),
    [
        (Mask(lambda b, x, y, g: x), "a mask has shape"),
        (Mask(lambda b, x, y, g: x[:, :1] - 1), r"a mask is in \[0, 1\]"),
        (Mask(lambda b, x, y, g: torch.rand(x[:, :1].shape)), "changed the random state of torch"),
        (Mask(lambda b, x, y, g: torch.rand(x[:, :1].shape, generator=g)), "depends on that image alone, not on the batch"),
        (Mask(lambda b, x, y, g: x[:, :1] / x[:, :1].max()), "depends on that image alone"),
        (Remembers(), "same images, same seed, same mask"),
        (Mask(trains), "changed the mode of the model, the mode of 0"),
        (Mask(hooks), "changed the hooks of 0"),
        (Mask(backward), "changed the gradient of 0.bias|raised RuntimeError|does not require grad"),
        (Mask(slope), "one of the differentiated Tensors|does not require grad"),
        (Mask(lambda b, x, y, g: x.mul_(0.5)[:, :1]), "changed images"),
        (Mask(lambda b, x, y, g: (b(x).softmax(1)[:, :1, None, None]) * torch.is_inference_mode_enabled()), None),
    ],
)
def test_maskers_that_break_their_contract(masker, words):
    if words is None:
        check_masker(masker)
        return
    with pytest.raises((SaliencyKitError, RuntimeError), match=words):
        check_masker(masker)


def test_good_maskers_pass():
    check_masker(Mask(slope, needs_gradient=True))
    check_masker(Mask(lambda b, x, y, g: draw.uniform(x, (1, 4, 4), generator=g)))
    check_masker(Mask(lambda b, x, y, g: Found(b(x).softmax(1).gather(1, y[:, None])[:, :, None, None])))


def test_a_masker_for_a_box_of_ones_own():
    box = TorchBlackBox(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 5)))
    box(torch.rand(1, 3, 8, 8))
    check_masker(CentreBox(), black_box=box, images=torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(ContractError, match="images= that it takes are given too"):
        check_masker(CentreBox(), black_box=box)


class Judge(Metric):
    higher_is_better = True

    def __init__(self, score):
        self.given = score

    def score(self, black_box, sample, mask, *, explain, generator):
        return self.given(black_box, sample, mask, generator)


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (lambda b, s, m, g: m.mean(), "expected one float per image"),
        (lambda b, s, m, g: m.mean((1, 2, 3)) - m.mean(), "depends on that image alone"),
        (lambda b, s, m, g: torch.rand(len(m)), "changed the random state of torch"),
        (lambda b, s, m, g: {"boxes" if s.boxes else "none": m.mean((1, 2, 3))}, "the same names every time"),
        (lambda b, s, m, g: b(s.images * m).argmax(1), "expected one float per image"),
        (lambda b, s, m, g: m.mul_(0.5).mean((1, 2, 3)), "changed mask"),
    ],
)
def test_metrics_that_break_their_contract(score, words):
    with pytest.raises(SaliencyKitError, match=words):
        check_metric(Judge(score))


def test_a_metric_that_does_not_say_which_way_is_up():
    class Silent(Metric):
        def score(self, black_box, sample, mask, *, explain, generator):
            return mask.mean((1, 2, 3))

    with pytest.raises(ContractError, match="higher_is_better is True or False; got None"):
        check_metric(Silent())


def test_good_metrics_pass():
    check_metric(Judge(lambda b, s, m, g: {"a": m.mean((1, 2, 3)), "b": torch.full((len(m),), float("nan"))}))
    check_metric(Judge(lambda b, s, m, g: draw.uniform(s.images, (1,), generator=g)[:, 0]))


class Box(BlackBox):
    num_classes, differentiable = 2, True

    def __init__(self, logits, **attributes):
        self.given = logits
        for name, value in attributes.items():
            setattr(self, name, value)

    def logits(self, images):
        return self.given(images)


def colours(x):
    return x.mean((2, 3))[:, :2]


class Stateful:
    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return colours(x) + self.calls


@pytest.mark.parametrize(
    ("box", "words"),
    [
        (Box(lambda x: colours(x)[:, :1]), "expected logits of shape"),
        (Box(lambda x: colours(x - x.mean(0))), "depends on that image alone"),
        (
            Box(lambda x: colours(torch.nn.functional.dropout(x, 0.5))),
            "changed the random state|the same images get the same logits",
        ),
        (Box(Stateful()), "the same images get the same logits"),
        (Box(lambda x: colours(x).detach()), "differentiable=True keeps the autograd path"),
        (Box(lambda x: colours(x.detach()) + x.sum() * 0), "the gradient reaches the images; got zeros everywhere"),
        (Box(lambda x: colours(x.mul_(0.9))), "changed images|the same images"),
        (Box(colours, num_classes=2.0), "num_classes is an integer >= 1"),
        (Box(colours, differentiable="yes"), "differentiable is True or False"),
        (Box(colours, max_batch=0), "max_batch is None or >= 1"),
        (Box(colours, class_names=["one"]), "one name per class"),
        (Box(colours, device="cpu"), "device is a torch.device"),
        (Box(lambda x: colours(x.to(torch.float32)) if x.dtype == torch.float32 else 1 / 0), "raised ZeroDivisionError"),
    ],
)
def test_black_boxes_that_break_their_contract(box, words):
    with pytest.raises(SaliencyKitError, match=words):
        check_black_box(box, images=X.clone())


def test_good_black_boxes_pass():
    check_black_box(Box(colours, max_batch=1, class_names=("a", "b")), images=X)
    check_black_box(QueryOnly(Box(colours)), images=X)
    with pytest.raises(InputError, match="needs images=, because the box does not prepare pictures"):
        check_black_box(Box(colours))


def test_the_models_of_torch_boxes_are_watched():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 2))
    check_black_box(TorchBlackBox(model), images=X)
    calls = []

    class Trains(torch.nn.Module):
        def forward(self, x):
            calls.append(self.register_forward_hook(lambda *a: None))
            return colours(x)

    with pytest.raises(ContractError, match="changed the hooks of the model"):
        check_black_box(TorchBlackBox(Trains()), images=X)


@pytest.mark.parametrize(("kind", "check"), CHECKS.items())
def test_something_else_is_refused(kind, check):
    with pytest.raises(ContractError, match=rf"check_{kind}\(3\): it is derived from"):
        check(3)
