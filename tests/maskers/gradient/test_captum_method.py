"""AttributionMasker: Captum's results, the rules from scores to mask, and refusals."""

import captum.attr
import pytest
import torch
from captum.attr import (
    DeepLift,
    GradientShap,
    IntegratedGradients,
    LayerActivation,
    LayerGradCam,
    LayerGradientXActivation,
    LayerIntegratedGradients,
    NoiseTunnel,
    Saliency,
)
from torch import Generator, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import GradientError, InputError
from saliencykit.maskers.gradient.captum_method import AttributionMasker
from saliencykit.maskers.gradient.pixel_attribution import reduce_channels
from saliencykit.testing import check_masker
from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly, small_network
from saliencykit.testing.unchanged import untouched

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
LABELS = torch.tensor([3, 0, 1])


def black_box_of(model=None, **options):
    return TorchBlackBox(model or small_network().eval(), mean=MEAN, std=STD, size=16, **options)


def random_images(n=3):
    return torch.rand(n, 3, 16, 16, generator=Generator().manual_seed(1))


def exact():
    """A network and images in float64, for Captum's numbers: no rounding flips a ReLU."""
    return small_network().eval().double(), random_images().double()


def per_channel(values, images):
    return images.new_tensor(values).view(1, 3, 1, 1)


def normalized(images):
    return (images - per_channel(MEAN, images)) / per_channel(STD, images)


def same(ours, theirs):
    """To 1e-10 of the largest: hundreds of operations of 1e-16, of numbers 1e3 times as large."""
    largest = float(theirs.detach().abs().max())
    assert ours.dtype == theirs.dtype == torch.float64
    return largest > 1e-5 and torch.allclose(ours, theirs.detach(), rtol=0, atol=1e-10 * largest)


def scores(masker, black_box, images, labels=LABELS, seed=0):
    return masker.attribute(
        black_box, images, labels, generator=Generator().manual_seed(seed)
    ).attributions


@pytest.mark.parametrize(
    "name",
    [
        "InputXGradient",
        "DeepLift",
        pytest.param("IntegratedGradients", marks=pytest.mark.slow),
        pytest.param("FeatureAblation", marks=pytest.mark.slow),
    ],
)
def test_methods_that_multiply_with_the_input_give_captums_numbers_on_normalized_images(name):
    net, images = exact()
    theirs = getattr(captum.attr, name)(net).attribute(normalized(images), target=LABELS)
    ours = scores(
        AttributionMasker(method=name, channels="sum", sign="positive"), black_box_of(net), images
    )
    assert same(ours, theirs.sum(1, keepdim=True))


def test_occlusion_with_its_options():
    options = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 2, 2)}
    net, images = exact()
    theirs = captum.attr.Occlusion(net).attribute(normalized(images), target=LABELS, **options)
    masker = AttributionMasker(
        method=captum.attr.Occlusion, channels="mean", sign="positive", options=options
    )
    assert not masker.needs_gradient
    expected = theirs.mean(1, keepdim=True)  # Captum returns it in float32
    ours = scores(masker, black_box_of(net), images)
    assert torch.allclose(ours, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))
    assert scores(masker, QueryOnly(black_box_of(net)), images).shape == (3, 1, 16, 16)


@pytest.mark.parametrize(
    "given",
    ["Saliency", Saliency, lambda f: Saliency(f)],
    ids=["name", "class", "function"],
)
def test_a_method_is_given_by_name_class_or_function(given):
    net, images = exact()
    theirs = Saliency(net).attribute(normalized(images), target=LABELS, abs=False)
    theirs = theirs / per_channel(STD, images)
    ours = scores(
        AttributionMasker(method=given, channels="sum", options={"abs": False}),
        black_box_of(net),
        images,
    )
    assert same(ours, theirs.sum(1, keepdim=True))


def test_tensors_among_the_options_are_split_with_the_images():
    net, images = exact()
    baselines = torch.rand(3, 3, 16, 16, generator=Generator().manual_seed(5)).double()
    theirs = IntegratedGradients(net).attribute(
        images, baselines=baselines, target=LABELS, n_steps=5
    )
    masker = AttributionMasker(
        method=IntegratedGradients, channels="sum", options={"baselines": baselines, "n_steps": 5}
    )
    ours = scores(masker, TorchBlackBox(net, size=16), images)
    assert same(ours, theirs.sum(1, keepdim=True))


@pytest.mark.parametrize(
    "kind", [LayerActivation, LayerGradientXActivation, LayerIntegratedGradients, LayerGradCam]
)
def test_layers_are_found_or_named(kind):
    net, images = exact()
    options = {"n_steps": 5} if kind is LayerIntegratedGradients else {}
    for layer in (None, "4", "0"):
        target = {} if kind is LayerActivation else {"target": LABELS}
        with torch.no_grad() if kind is LayerActivation else torch.enable_grad():
            theirs = kind(net, net[int(layer or 4)]).attribute(
                normalized(images), **target, **options
            )
        masker = AttributionMasker(method=kind, layer=layer, channels="sum", options=options)
        ours = masker.mask(black_box_of(net), images, LABELS, Generator()).attributions
        assert same(ours, theirs.sum(1, keepdim=True))


@pytest.mark.parametrize(
    "method",
    [
        GradientShap,
        lambda f: NoiseTunnel(Saliency(f)),
        pytest.param(lambda f: NoiseTunnel(IntegratedGradients(f)), marks=pytest.mark.slow),
        captum.attr.ShapleyValueSampling,
    ],
    ids=["shap", "tunnel", "tunnel-of-integrated", "shapley"],
)
def test_methods_with_random_numbers_keep_the_contract(method):
    quarters = torch.arange(4).view(1, 1, 2, 2).repeat_interleave(8, 2).repeat_interleave(8, 3)
    options = {
        GradientShap: {"n_samples": 3, "baselines": torch.rand(2, 3, 1, 1).expand(2, 3, 16, 16)},
        captum.attr.ShapleyValueSampling: {"n_samples": 2, "feature_mask": quarters},
    }.get(method, {})
    masker = AttributionMasker(method=method, options=options)
    check_masker(masker, black_box=black_box_of(), images=random_images())
    one, other = (scores(masker, black_box_of(), random_images(), seed=seed) for seed in (0, 1))
    assert not torch.equal(one, other)


def test_the_random_state_is_untouched():
    before = torch.get_rng_state()
    scores(
        AttributionMasker(method=lambda f: NoiseTunnel(Saliency(f))),
        black_box_of(),
        random_images(),
    )
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("method", ["DeepLift", "GuidedBackprop"])
def test_methods_that_hook_the_model_leave_it_as_it_was(method):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 196, 4)
    ).train()
    with untouched(method, model):
        assert (
            scores(AttributionMasker(method=method), black_box_of(model), random_images())
            .abs()
            .max()
            > 0
        )


class Raises:
    """Hooks a layer, then fails."""

    def __init__(self, model):
        self.model = model

    def attribute(self, inputs, target):
        self.model.inner[1].register_forward_hook(lambda *given: None)
        self.model.inner[1].left_behind = 1
        raise RuntimeError("half way")


def test_hooks_are_removed_after_an_exception_too():
    model = small_network().eval()
    with (
        untouched("Raises", model),
        pytest.raises(InputError, match="Raises raised RuntimeError on TorchBlackBox: half way"),
    ):
        scores(AttributionMasker(method=Raises), black_box_of(model), random_images())
    assert not hasattr(model[1], "left_behind")
    with untouched("DeepLift", model), pytest.raises(InputError, match="DeepLift raised"):
        scores(
            AttributionMasker(method=DeepLift, options={"baselines": torch.zeros(2, 5)}),
            black_box_of(model),
            random_images(),
        )


class Returns:
    """Returns what it is told."""

    def __init__(self, result):
        self.result = result

    def __call__(self, forward):
        return self

    def attribute(self, inputs):
        return self.result(inputs)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda x: None, "returned NoneType; expected one tensor"),
        (lambda x: (x, x), "returned tuple of 2; expected one tensor"),
        (lambda x: x * float("nan"), "returned NaN or infinite values in row 0"),
        (lambda x: x.sum((2, 3)), r"returned shape \(1, 3\), which is not a map over"),
    ],
)
def test_results_that_are_no_attribution_are_refused(result, message):
    with pytest.raises((InputError, TypeError), match=message):
        scores(AttributionMasker(method=Returns(result).__call__), black_box_of(), random_images())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "Saliensy"}, r"no attribution method 'Saliensy'; it has Saliency"),
        ({"method": 3}, "expected a class of captum.attr"),
        ({"sign": "negative"}, "'absolute' or 'positive'"),
        ({"channels": "median"}, "'max' or 'sum' or 'mean'"),
        ({"options": {"target": 3}}, "the masker itself passes target"),
    ],
)
def test_bad_arguments_are_refused_at_construction(wrong, message):
    with pytest.raises(InputError, match=message):
        AttributionMasker(**wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": NoiseTunnel}, "wraps another attribution"),
        ({"method": "Saliency", "layer": "4"}, "takes no layer"),
        ({"method": "LayerGradCam", "layer": "40"}, "not one of its layers"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        scores(AttributionMasker(**options), black_box_of(), random_images())


def test_methods_that_need_a_module_refuse_a_black_box_without_one():
    black_box = PlantedEvidence()
    images, labels = black_box.examples(2, generator=Generator().manual_seed(0))
    with pytest.raises(InputError, match=r"DeepLift reads the layers .* 'rise'"):
        scores(AttributionMasker(method="DeepLift"), black_box, images, labels)
    with pytest.raises(GradientError, match="query-only"):
        scores(AttributionMasker(), QueryOnly(black_box), images, labels)


def test_captums_guided_backprop_on_a_model_without_relu_modules_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(4 * 196, 4))
    with pytest.raises(
        InputError,
        match=r"Sequential has none: it would return the plain gradient.*'guided-backprop'",
    ):
        scores(AttributionMasker(method="GuidedBackprop"), black_box_of(model), random_images())


def test_the_rules_from_scores_to_mask():
    maps = torch.tensor([[1.0, -4.0], [3.0, 2.0]]).view(1, 2, 1, 2)
    for channels, expected in {"max": [3.0, -4.0], "sum": [4.0, -2.0], "mean": [2.0, -1.0]}.items():
        result = reduce_channels(maps, maps, "absolute", channels)
        assert result.channel_attributions is maps
        assert result.attributions.flatten().tolist() == expected
        expected = torch.tensor(expected)
        assert torch.allclose(result.mask.flatten(), expected.abs() / expected.abs().max())
        assert torch.allclose(
            reduce_channels(maps, maps, "positive", channels).mask.flatten(),
            expected.clamp_min(0) / expected.max(),
        )


def test_a_model_that_ignores_its_input_gets_an_empty_mask():
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    nn.init.zeros_(net[1].weight)
    assert not AttributionMasker()(
        black_box_of(net), random_images(), LABELS, generator=Generator()
    ).any()


@pytest.mark.parametrize("limit", [1, 2, None])
def test_results_do_not_depend_on_the_batch_size(limit):
    expected = scores(
        AttributionMasker(method="IntegratedGradients"), black_box_of(), random_images()
    )
    assert torch.allclose(
        scores(
            AttributionMasker(method="IntegratedGradients"),
            black_box_of(max_batch_size=limit),
            random_images(),
        ),
        expected,
        atol=1e-6,
    )


def test_bfloat16_models_and_double_precision_images():
    net = small_network().eval().to(torch.bfloat16)
    assert scores(AttributionMasker(), black_box_of(net), random_images()).dtype == torch.float32
    assert (
        scores(AttributionMasker(), black_box_of(), random_images().double()).dtype == torch.float64
    )
