"""The invariants of masks, for any image, mask and seed. `--hypothesis-profile=deep` looks 40
times longer.
"""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.constant import Constant
from saliencykit.alternatives.noise import Noise
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.alternative import Alternative, compose
from saliencykit.core.errors import InputError
from saliencykit.core.masker import TrainedMaskerFactory
from saliencykit.core.metric import Sample
from saliencykit.metrics.saliency_score import SaliencyScore
from saliencykit.registry.coerce import create
from saliencykit.registry.manager import registry
from saliencykit.terms.area import Area, PowerArea
from saliencykit.terms.smoothness import Smoothness
from saliencykit.testing.black_boxes import Counting, PlantedEvidence, QueryOnly, small_network
from saliencykit.testing.strategies import images, labels, masks, sizes, trials
from saliencykit.testing.unchanged import untouched
from tests.helpers import seeded

seeds = st.integers(0, 2**31)
QUICK = {
    "iterative": "iterative:steps=1,areas=(0.2,0.2)",
    "meaningful-perturbation": "meaningful-perturbation:steps=2",
    "rise": "rise:samples=12",
}
QUICK["extremal-perturbation"] = "extremal-perturbation:steps=2"
LAYERS = {
    "cam", "ablation-cam", "grad-cam", "score-cam", "excitation-backprop",
    "contrastive-excitation-backprop", "feedback",
    "guided-backprop", "deconvolution", "guided-grad-cam", "eigen-cam", "finer-cam",
    "grad-cam-plus-plus", "hires-cam", "layer-cam", "xgrad-cam",
}  # fmt: skip
"""They read the layers of a torch module, which PlantedEvidence has not."""
BOUND = {"ground-truth", "on-surrogate", "stored"}
"""They know one set of images or one box: tests/maskers/test_{boxes,on_surrogate,stored}.py run
the suite on such.
"""


def ours(kind):
    """Short names of our own parts; trained maskers know one box only, see test_contracts."""
    mine = {
        full.split("/", 1)[1]: f
        for full, f in registry().names(kind).items()
        if full.startswith("saliencykit/")
    }
    own = [name for name, factory in mine.items() if not isinstance(factory, TrainedMaskerFactory)]
    return [name for name in own if name not in BOUND]


def make(kind, name):
    return create(kind, "saliencykit/" + QUICK.get(name, name))


@st.composite
def edits(draw):
    x = draw(images())
    size = tuple(x.shape[2:])
    return x, draw(masks(batch=len(x), size=size)), draw(images(batch=len(x), size=size))


@given(edits())
def test_an_edit_lies_between_the_image_and_the_fill(edit):
    x, m, a = edit
    e = compose(x, m, a)
    assert (e >= torch.minimum(x, a) - 1e-12).all()
    assert (e <= torch.maximum(x, a) + 1e-12).all()


@given(edits())
def test_a_mask_of_ones_gives_the_image_and_of_zeros_the_fill(edit):
    x, m, a = edit
    assert torch.equal(compose(x, torch.ones_like(m), a), x)
    assert torch.equal(compose(x, torch.zeros_like(m), a), a)


@given(edits())
def test_the_two_edits_together_are_image_and_fill(edit):
    x, m, a = edit
    assert torch.allclose(compose(x, m, a) + compose(x, 1 - m, a), x + a, atol=1e-12)


@given(edits())
def test_the_slope_of_an_edit_is_image_minus_fill(edit):
    x, m, a = edit
    m = m.requires_grad_(True)
    (slope,) = torch.autograd.grad(compose(x, m, a).sum(), m)
    assert torch.allclose(slope, (x - a).sum(1, keepdim=True), atol=1e-12)


@given(edits(), st.floats(0, 1))
def test_an_edit_is_linear_in_the_mask(edit, share):
    x, m, a = edit
    other = 1 - m
    mixed = compose(x, share * m + (1 - share) * other, a)
    assert torch.allclose(
        mixed, share * compose(x, m, a) + (1 - share) * compose(x, other, a), atol=1e-12
    )


@st.composite
def planted(draw):
    """Images that hold evidence: on flat ones the box's derivative is a matter of the last digit,
    so no optimum is defined.
    """
    size = draw(sizes())
    return (
        PlantedEvidence()
        .examples(draw(st.integers(1, 3)), generator=seeded(draw(seeds)), size=size)[0]
        .double()
    )


@pytest.mark.slow  # in the quick tests check_masker, on fixed images
@pytest.mark.parametrize("name", ours("masker"))
@settings(max_examples=4 if settings().max_examples < 100 else settings().max_examples)
@given(data=st.data(), seed=seeds)
def test_every_masker_keeps_its_invariants(name, data, seed):
    masker, black_box = make("masker", name), PlantedEvidence()
    if name in LAYERS:
        black_box = TorchBlackBox(small_network().eval().double(), size=16)
        x = (
            PlantedEvidence()
            .examples(
                data.draw(st.integers(1, 3)), generator=seeded(data.draw(seeds)), size=(16, 16)
            )[0]
            .double()
        )
    else:
        x = data.draw(planted() if masker.needs_gradient else images(most=3))
    y = torch.arange(len(x)) % 4
    with untouched(name, x=x, y=y):
        mask = masker(black_box, x, y, generator=seeded(seed))
    assert mask.shape == (len(x), 1, *x.shape[2:])
    assert torch.isfinite(mask).all()
    assert mask.min() >= 0
    assert mask.max() <= 1
    assert torch.allclose(masker(black_box, x, y, generator=seeded(seed)), mask, atol=1e-5)
    assert torch.allclose(
        masker(black_box, x[-1:], y[-1:], generator=seeded(seed)), mask[-1:], atol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ours("masker"))
@given(x=images(batch=1))
def test_every_masker_respects_a_query_only_box(name, x):
    masker, black_box = make("masker", name), Counting(QueryOnly(PlantedEvidence()))
    y = torch.zeros(1, dtype=torch.int64)
    if masker.needs_gradient:
        with pytest.raises(TypeError, match="needs gradients"):
            masker(black_box, x, y, generator=seeded())
        assert black_box.batch_sizes == []
    elif name in LAYERS:
        with pytest.raises(InputError, match="torch module"):
            masker(black_box, x, y, generator=seeded())
    else:
        masker(black_box, x, y, generator=seeded())


@pytest.mark.slow  # in the quick tests check_alternative and check_term
@pytest.mark.parametrize("name", ours("alternative"))
@given(edit=edits(), seed=seeds)
def test_every_alternative_keeps_its_invariants(name, edit, seed):
    x, m, _ = edit
    alternative = make("alternative", name)
    with untouched(name, x=x, m=m):
        fill = alternative(x, generator=seeded(seed), mask=m).clone()
    assert (fill.shape, fill.dtype) == (x.shape, x.dtype)
    assert torch.isfinite(fill).all()
    assert torch.equal(alternative(x, generator=seeded(seed), mask=m), fill)
    assert torch.allclose(
        alternative(x[:1], generator=seeded(seed), mask=m[:1]), fill[:1], atol=1e-9
    )
    if not alternative.uses_mask and type(alternative).edit is Alternative.edit:
        one, other = (alternative.edit(x, mask, seeded(seed)) for mask in (m, 1 - m))
        assert torch.allclose(one + other, x + fill, atol=1e-9)


@given(images(), st.floats(0.05, 20), st.floats(0, 1))
def test_blur_keeps_constants_and_the_range(x, sigma, value):
    blur = Blur(sigma=sigma)
    assert torch.allclose(
        blur(torch.full_like(x, value), generator=seeded()), torch.full_like(x, value), atol=1e-9
    )
    out = blur(x, generator=seeded())
    assert (out >= x.amin((2, 3), keepdim=True) - 1e-9).all()
    assert (out <= x.amax((2, 3), keepdim=True) + 1e-9).all()


@given(images(), seeds, seeds)
def test_constant_ignores_the_generator_and_noise_depends_on_it(x, one, other):
    assert torch.equal(
        Constant()(x, generator=seeded(one)), Constant()(x * 0, generator=seeded(other))
    )
    same = torch.equal(Noise()(x, generator=seeded(one)), Noise()(x, generator=seeded(other)))
    assert same == (one == other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ours("term"))
@given(trial=trials(), data=st.data())
def test_every_term_keeps_its_invariants(name, trial, data):
    term = make("term", name)
    penalty = term(trial)
    assert penalty.shape == (len(trial.images),)
    assert torch.isfinite(penalty).all()
    assert (penalty >= 0).all()
    order = torch.tensor(data.draw(st.permutations(range(len(penalty)))))
    parts = (trial.images, trial.labels, trial.real, trial.mask, trial.preserved, trial.destroyed)
    moved = term(type(trial)(*(part[order] for part in parts)))
    assert torch.allclose(moved, penalty[order], atol=1e-9)


@given(trials(), st.data())
def test_area_is_monotone_in_the_mask(trial, data):
    larger = torch.maximum(
        trial.mask, data.draw(masks(batch=len(trial.mask), size=tuple(trial.mask.shape[2:])))
    )
    for term in (Area(), PowerArea()):
        assert (term(replace(trial, mask=larger)) >= term(trial)).all()


@given(trials())
def test_smoothness_is_0_iff_constant_and_equal_under_flips(trial):
    penalty = Smoothness(reduction="sum")(trial)
    reach = (trial.mask.amax((1, 2, 3)) - trial.mask.amin((1, 2, 3))).tolist()
    assert all(p == 0 for p, r in zip(penalty.tolist(), reach, strict=True) if r == 0)
    assert all(p > 0 for p, r in zip(penalty.tolist(), reach, strict=True) if r > 1e-6)
    assert torch.allclose(
        Smoothness(reduction="sum")(replace(trial, mask=trial.mask.flip(2, 3))), penalty, atol=1e-9
    )


@given(st.data())
def test_the_saliency_score_grows_with_the_area_at_a_fixed_probability(data):
    x = torch.full(
        (1, 3, data.draw(st.integers(4, 16)), data.draw(st.integers(4, 16))),
        0.5,
        dtype=torch.float64,
    )
    small = data.draw(masks(batch=1, size=tuple(x.shape[2:])))
    large = torch.maximum(small, data.draw(masks(batch=1, size=tuple(x.shape[2:]))))
    if bool((small >= 0.5).any()):  # an empty mask is the whole image
        results = [
            SaliencyScore()(
                PlantedEvidence(),
                Sample(x, torch.tensor([1])),
                m,
                explain=lambda *_: small,
                generator=seeded(),
            )
            for m in (small, large)
        ]
        assert results[0]["area"] <= results[1]["area"]
        assert results[0]["score"] <= results[1]["score"] + 1e-9


@given(masks(), st.floats(0.01, 1), st.floats(0.01, 1), st.data())
def test_a_larger_threshold_never_enlarges_a_box(mask, one, other, data):
    low, high = sorted((one, other))
    x = data.draw(images(batch=len(mask), size=tuple(mask.shape[2:])))
    sample = Sample(x, data.draw(labels(len(mask))))
    reached = (mask >= high).flatten(1).any(1)
    large, small = (
        SaliencyScore(threshold=t)(
            PlantedEvidence(), sample, mask, explain=lambda *_: mask, generator=seeded()
        )["area"]
        for t in (low, high)
    )
    assert (small <= large)[reached].all()
