"""MaskerAttribution: the masker's own map in Captum's form, whatever target, baselines and
surroundings.
"""

import subprocess
import sys

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation as CaptumsFeatureAblation
from captum.attr import NoiseTunnel, PerturbationAttribution
from captum.attr import visualization as viz
from captum.metrics import infidelity, sensitivity_max
from torch import Generator, nn

import saliencykit
from saliencykit.black_boxes.module_adapter import BlackBoxModule
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import GradientError, InputError
from saliencykit.integrations.captum import MaskerAttribution
from saliencykit.maskers.gradient.captum_method import AttributionMasker
from saliencykit.maskers.perturbation.feature_ablation import FeatureAblation
from saliencykit.maskers.perturbation.occlusion import Occlusion
from saliencykit.registry.coerce import as_black_box, as_masker
from saliencykit.testing.black_boxes import Counting, PlantedEvidence, QueryOnly, small_network
from saliencykit.testing.unchanged import untouched

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
LABELS = torch.tensor([3, 0, 1])
NAMES = [
    "gradient",
    "occlusion:window=6",
    "rise:samples=40",
    "feature-ablation:grid_size=4",
    "grad-cam",
    "iterative:steps=1,areas=(0.2,0.2)",
]
# normalized inputs: not in [0, 1]
X = torch.randn(3, 3, 16, 16, generator=Generator().manual_seed(1)) * 2 - 0.5


def masks(masker, net, x, labels=LABELS, seed=0):
    black_box = TorchBlackBox(net, size=16)
    return as_masker(masker)(
        black_box, x, labels, generator=Generator().manual_seed(seed)
    ).expand_as(x)


@pytest.mark.parametrize("name", NAMES)
def test_the_attribution_is_the_maskers_map(name):
    net, x = small_network().double(), X.double()  # small differences, divided by their largest
    answer = MaskerAttribution(net, name).attribute(x, target=LABELS)
    assert torch.allclose(answer, masks(name, net, x), rtol=0, atol=1e-9)
    assert answer.shape == X.shape
    assert answer.is_contiguous()
    assert not answer.requires_grad
    assert answer.amax((1, 2, 3)).min() > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_row_does_not_depend_on_its_batch(name):
    attribution, x = MaskerAttribution(small_network().double(), name), X.double()
    together = attribution.attribute(x, target=LABELS)
    for i in range(3):
        alone = attribution.attribute(x[i : i + 1], target=int(LABELS[i]))
        assert torch.allclose(alone, together[i : i + 1], rtol=0, atol=1e-9)
    flipped = attribution.attribute(x.flip(0), target=LABELS.flip(0)).flip(0)
    assert torch.allclose(flipped, together, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_model_inputs_and_random_states_are_unchanged(name):
    net = small_network().train()
    net[1].register_forward_hook(lambda *given: None)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    x = X.clone().requires_grad_()
    with untouched(name, net):
        MaskerAttribution(net, name).attribute(x, target=LABELS)
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()
    assert x.grad is None
    assert torch.equal(x, X)


@pytest.mark.parametrize("surroundings", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("name", ["gradient", "occlusion:window=6", "grad-cam"])
def test_any_grad_mode_gives_the_same_map(name, surroundings):
    net, x = small_network().double(), X.double()
    with surroundings():
        answer = MaskerAttribution(net, name).attribute(x.clone(), target=LABELS)
    assert torch.allclose(answer, masks(name, net, x), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["gradient", "rise:samples=40", "grad-cam"])
def test_bfloat16_models_and_inputs_give_bfloat16(name):
    net = small_network()
    wanted = MaskerAttribution(net, name).attribute(X, target=LABELS)
    answer = MaskerAttribution(small_network().to(torch.bfloat16), name).attribute(
        X.to(torch.bfloat16), target=LABELS
    )
    assert answer.dtype == torch.bfloat16
    correlation = torch.corrcoef(torch.stack([answer.float().flatten(), wanted.flatten()]))[0, 1]
    # answers of 8 bits: small differences drown
    assert correlation > (0.9 if name == "grad-cam" else 0.5)
    assert (
        MaskerAttribution(small_network().double(), name).attribute(X.double(), target=LABELS).dtype
        == torch.float64
    )


def test_a_tuple_gives_a_tuple():
    net = small_network()
    attribution = MaskerAttribution(net, "occlusion:window=6")
    (answer,) = attribution.attribute((X,), target=LABELS)
    assert torch.equal(answer, attribution.attribute(X, target=LABELS))


def test_inputs_that_are_not_images_are_refused_with_the_way_out():
    for inputs in (torch.rand(2, 40), (X, X), (torch.rand(2, 3), torch.rand(2, 4))):
        with pytest.raises(InputError, match=r"one float tensor \(B, C, H, W\).*Captum's own"):
            MaskerAttribution(nn.Linear(40, 4), "gradient").attribute(inputs, target=0)


def test_outputs_of_several_dimensions_are_flattened():
    net, x = small_network().double(), X.double()
    both = nn.Sequential(net, nn.Unflatten(1, (2, 2)))
    wanted = MaskerAttribution(net, "occlusion:window=6").attribute(x, target=[3, 0, 1])
    attribution = MaskerAttribution(both, "occlusion:window=6")
    answer = attribution.attribute(x, target=[(1, 1), (0, 0), (0, 1)])
    assert torch.allclose(answer, wanted, rtol=0, atol=1e-9)


def test_a_single_output_is_read_as_a_sigmoids():
    two, one = small_network(), small_network()
    margin = nn.Sequential(one, nn.Linear(4, 1, bias=False))
    margin[1].weight.data = torch.tensor([[1.0, 0.0, 0.0, -1.0]])
    pair = nn.Sequential(two, nn.Linear(4, 2, bias=False))
    pair[1].weight.data = torch.tensor([[0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]])
    wanted = MaskerAttribution(pair, "occlusion:window=6", values="attributions").attribute(
        X, target=1
    )
    for model, target in ((margin, None), (margin, 0), (lambda x: margin.eval()(x)[:, 0], None)):
        answer = MaskerAttribution(model, "occlusion:window=6", values="attributions").attribute(
            X, target=target
        )
        assert torch.allclose(answer, wanted, atol=1e-6)


def test_declared_probabilities_give_the_same_numbers():
    net = small_network()
    wanted = MaskerAttribution(net, "occlusion:window=6", values="attributions").attribute(
        X, target=2
    )
    soft = MaskerAttribution(
        nn.Sequential(net, nn.Softmax(1)),
        "occlusion:window=6",
        values="attributions",
        probabilities=True,
    )
    assert torch.allclose(soft.attribute(X, target=2), wanted, atol=1e-5)


def test_captums_feature_ablation_of_probabilities_gives_the_same_numbers():
    net, regions = (
        small_network().eval(),
        (torch.arange(16) // 4).view(1, 1, 1, 16).expand(1, 1, 16, 16),
    )
    for baselines in (
        0,
        -1.5,
        torch.randn(1, 3, 16, 16),
        torch.randn(3, 3, 16, 16),
        (torch.randn(3, 3, 16, 16),),
    ):
        theirs = CaptumsFeatureAblation(lambda x: net(x).softmax(1)).attribute(
            X, baselines=baselines, target=LABELS, feature_mask=regions
        )
        ours = MaskerAttribution(net, "feature-ablation", values="attributions").attribute(
            X, baselines=baselines, target=LABELS, feature_mask=regions
        )
        assert torch.allclose(ours, theirs, atol=1e-6)
        assert theirs.abs().max() > 1e-3


def test_baselines_replace_the_alternative():
    net = small_network()
    default = MaskerAttribution(net, "occlusion:window=6").attribute(X, target=LABELS)
    black = MaskerAttribution(net, "occlusion:window=6").attribute(X, -7.0, LABELS)
    assert not torch.allclose(default, black)
    rows = torch.tensor([-7.0, 0.0, 3.0]).view(3, 1, 1, 1).expand_as(X)
    mixed = MaskerAttribution(net, "occlusion:window=6").attribute(X, rows, LABELS)
    assert torch.allclose(mixed[0], black[0], atol=1e-6)
    with pytest.raises(InputError, match="Gradient replaces no pixels"):
        MaskerAttribution(net, "gradient").attribute(X, 0, LABELS)


@pytest.mark.parametrize("masker", ["gradient", "feature-ablation:grid_size=2"])
def test_each_feature_gets_one_value(masker):
    g = Generator().manual_seed(2)
    # channels of one pixel may be of different features
    features = torch.randint(0, 5, (3, 3, 16, 16), generator=g)
    answer = MaskerAttribution(small_network(), masker).attribute(
        X, target=LABELS, feature_mask=features
    )
    plain = MaskerAttribution(small_network(), masker).attribute(X, target=LABELS)
    for row in range(3):
        for name in range(5):
            mine = features[row] == name
            assert torch.allclose(answer[row][mine], plain[row][mine].mean(), atol=1e-6)


def test_a_masker_with_regions_uses_the_feature_mask():
    regions = (torch.arange(16) // 4).view(1, 1, 16, 1).expand(3, 1, 16, 16)
    net = small_network()
    answer = MaskerAttribution(net, "feature-ablation:grid_size=2").attribute(
        X, target=LABELS, feature_mask=regions
    )
    assert torch.allclose(answer, masks(FeatureAblation(regions=regions), net, X), atol=1e-6)


def test_additional_arguments_are_split_with_their_rows():
    net, scale = small_network().eval(), torch.tensor([1.0, 5.0, -2.0])
    seen = []

    def forward(x, scale, half):
        seen.append(len(x))
        assert scale.shape == (len(x),)
        return net(x) * scale[:, None] / (2 if half else 1)

    attribution = MaskerAttribution(forward, "occlusion:window=6", values="attributions")
    answer = attribution.attribute(X, target=LABELS, additional_forward_args=(scale, True))
    for i in range(3):
        own = MaskerAttribution(
            lambda x, s=scale[i]: net(x) * s / 2, "occlusion:window=6", values="attributions"
        )
        assert torch.allclose(
            answer[i : i + 1], own.attribute(X[i : i + 1], target=LABELS[i]), atol=1e-6
        )
    assert max(seen) > 1


def test_perturbations_per_eval_limits_the_batch():
    black_box = Counting(PlantedEvidence())
    images, labels = black_box.black_box.examples(2, generator=Generator().manual_seed(0))
    wanted = MaskerAttribution(black_box, "occlusion:window=4").attribute(images, target=labels)
    assert max(black_box.batch_sizes) > 3
    black_box.batch_sizes.clear()
    answer = MaskerAttribution(black_box, "occlusion:window=4").attribute(
        images, None, labels, None, None, 3
    )
    assert max(black_box.batch_sizes) == 3
    assert torch.allclose(answer, wanted, atol=1e-6)


def test_show_progress_counts_rows(capsys):
    answer = MaskerAttribution(small_network(), "occlusion:window=6").attribute(
        X, target=LABELS, show_progress=True
    )
    assert "3/3" in capsys.readouterr().err
    assert torch.allclose(answer, masks("occlusion:window=6", small_network(), X), atol=1e-6)


def test_with_statistics_the_masker_sees_raw_pixels():
    net, raw = small_network(), torch.rand(3, 3, 16, 16)
    normalized = (raw - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    answer = MaskerAttribution(net, "occlusion:window=6", mean=MEAN, std=STD).attribute(
        normalized, target=LABELS
    )
    black_box = TorchBlackBox(net, mean=MEAN, std=STD, size=16)
    theirs = saliencykit.explain(black_box, raw, LABELS, masker="occlusion:window=6").mask
    assert torch.allclose(answer, theirs.expand_as(answer), atol=1e-4)
    black = MaskerAttribution(net, "occlusion:window=6", mean=MEAN, std=STD).attribute(
        normalized, normalized.amin(), LABELS
    )
    own = MaskerAttribution(net, "occlusion:window=6").attribute(
        normalized, normalized.amin(), LABELS
    )
    assert torch.allclose(black, own, atol=1e-4)


def test_a_trained_masker_is_accepted():
    black_box = as_black_box("demo")
    raw = torch.rand(2, 3, *black_box.input_size)
    assert MaskerAttribution(black_box, "demo").attribute(raw, target=1).shape == raw.shape
    x = (raw - torch.tensor(black_box.mean).view(1, -1, 1, 1)) / torch.tensor(black_box.std).view(
        1, -1, 1, 1
    )
    kwargs = {"mean": tuple(black_box.mean), "std": tuple(black_box.std)}
    answer = MaskerAttribution(black_box.module, "demo", **kwargs).attribute(x, target=1)
    assert torch.allclose(
        answer, MaskerAttribution(black_box, "demo").attribute(raw, target=1), atol=1e-3
    )


def test_query_only_black_boxes_work_without_gradients():
    black_box = QueryOnly(PlantedEvidence())
    images, labels = black_box.black_box.examples(4, generator=Generator().manual_seed(0))
    for model in (black_box, BlackBoxModule(black_box)):
        answer = MaskerAttribution(model, "occlusion:window=4,stride=2").attribute(
            images, target=labels
        )
        assert answer.shape == images.shape
        with pytest.raises(GradientError, match="query-only"):
            MaskerAttribution(model, "gradient").attribute(images, target=labels)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["gradient", "occlusion:window=6", "grad-cam"])
def test_an_accelerator_gives_the_same_map(name):
    net = small_network()
    wanted = MaskerAttribution(net, name).attribute(X, target=LABELS)
    there, x = small_network().cuda(), X.cuda()
    for model in (there, lambda images: there.eval()(images)):
        if name == "grad-cam" and model is not there:
            continue
        answer = MaskerAttribution(model, name).attribute(x, target=LABELS.cuda())
        assert answer.device == x.device
        assert torch.allclose(answer.cpu(), wanted, atol=1e-3)


def test_more_rows_than_one_chunk():
    net, x = small_network().double(), torch.randn(20, 3, 16, 16).double()
    assert torch.allclose(
        MaskerAttribution(net, "grad-cam").attribute(x, target=2),
        masks("grad-cam", net, x, torch.full((20,), 2)),
        rtol=0,
        atol=1e-9,
    )


@pytest.mark.parametrize("name", ["gradient", "occlusion:window=6", "grad-cam"])
def test_noise_tunnel_takes_it(name):
    attribution, x = MaskerAttribution(small_network().double(), name), X.double()
    tunnel = NoiseTunnel(attribution)
    still = tunnel.attribute(x, target=LABELS, nt_samples=2, stdevs=0.0)
    assert torch.allclose(still, attribution.attribute(x, target=LABELS), rtol=0, atol=1e-9)
    for kind in ("smoothgrad", "smoothgrad_sq", "vargrad"):
        (noisy,) = tunnel.attribute(
            (X,), target=LABELS, nt_type=kind, nt_samples=3, nt_samples_batch_size=2, stdevs=0.3
        )
        assert noisy.shape == X.shape
        assert noisy.isfinite().all()


@pytest.mark.parametrize("name", ["gradient", "occlusion:window=6", "grad-cam", "rise:samples=20"])
def test_captums_metrics_take_it(name):
    net = small_network().eval()
    attribution = MaskerAttribution(net, name)
    answer = attribution.attribute(X, target=LABELS)

    def perturb(inputs):
        noise = torch.randn_like(inputs) * 0.1
        return noise, inputs - noise

    unfaithful = infidelity(net, perturb, X, answer, target=LABELS, n_perturb_samples=8)
    assert unfaithful.shape == (3,)
    assert unfaithful.isfinite().all()
    unstable = sensitivity_max(
        attribution.attribute, X, target=LABELS, n_perturb_samples=3, max_examples_per_batch=6
    )
    assert unstable.shape == (3,)
    assert unstable.isfinite().all()
    assert (unstable < 2).all()


def test_captums_visualization_takes_it():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    answer = MaskerAttribution(small_network(), "occlusion:window=6").attribute(X, target=LABELS)
    image, shown = X[0].permute(1, 2, 0).numpy(), answer[0].permute(1, 2, 0).numpy()
    figure, _ = viz.visualize_image_attr(
        shown, np.clip(image, 0, 1), method="blended_heat_map", sign="positive", use_pyplot=False
    )
    assert figure.axes


def test_a_masker_can_wrap_a_masker_attribution():
    net = small_network()
    assert isinstance(MaskerAttribution(net), PerturbationAttribution)
    assert not MaskerAttribution(net).has_convergence_delta()
    around = AttributionMasker(
        method=lambda f: MaskerAttribution(f, Occlusion(window=6)), channels="max"
    )
    answer = around(TorchBlackBox(net, size=16), X, LABELS, generator=Generator())
    assert answer.shape == (3, 1, 16, 16)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"masker": "occlusian"}, "occlusion"),
        ({"values": "map"}, "'mask' or 'attributions'"),
        ({"seed": -1}, "seed"),
        ({"mean": MEAN}, "mean and std together"),
        ({"mean": (0.5,), "std": (0.5,)}, "1 and 1 channels, the inputs have 3"),
    ],
)
def test_bad_arguments_are_refused(wrong, says):
    with pytest.raises(saliencykit.SaliencyKitError, match=says):
        MaskerAttribution(small_network(), **{"masker": "occlusion", **wrong}).attribute(
            X, target=0
        )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"target": None}, "say which one with target="),
        ({"target": 4}, "outside of outputs"),
        ({"target": (1, 0)}, "names no output"),
        ({"target": [0, 1]}, "2 targets for 3 rows"),
        ({"perturbations_per_eval": 0}, "perturbations_per_eval=0. takes a whole number >= 1"),
        (
            {"feature_mask": torch.zeros(16, 4)},
            r"feature_mask=\.\.\.\): shape \(16, 4\) does not fit",
        ),
        ({"feature_mask": torch.full((16, 16), 0.5)}, "whole numbers"),
        ({"baselines": torch.zeros(2, 3, 16, 16)}, "baselines"),
        ({"inputs": X.long()}, "one float tensor"),
        ({"inputs": X * float("nan")}, "NaN or infinite"),
    ],
)
def test_bad_calls_are_assertion_errors_as_captums_are(wrong, says):
    given = {"inputs": X, "target": 0} | wrong
    with pytest.raises(AssertionError, match=says):
        MaskerAttribution(small_network(), "occlusion:window=6").attribute(**given)


def test_maskers_without_attributions_say_so():
    with pytest.raises(InputError, match="CenterBox gives a mask only"):
        MaskerAttribution(small_network(), "center-box", values="attributions").attribute(
            X, target=0
        )


PROBE = """
import sys, torch
import saliencykit, saliencykit.integrations.captum, saliencykit.integrations.quantus
from saliencykit.maskers.gradient import input_gradients as maskers
from saliencykit.testing.black_boxes import PlantedEvidence
assert "captum" not in sys.modules and "quantus" not in sys.modules, "loaded too early"
sys.modules["captum"] = None  # as if it were not installed
try:
    from saliencykit.integrations.captum import MaskerAttribution
except saliencykit.InputError as error:
    print(error)
black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
for name in ("Gradient", "InputXGradient", "IntegratedGradients", "SmoothGrad"):
    getattr(maskers, name)()(black_box, *black_box.examples(2, generator=g), generator=g)
del sys.modules["captum"]
import captum
from saliencykit.integrations.captum import MaskerAttribution
print(captum.__file__, MaskerAttribution.__mro__[1].__module__)
"""


@pytest.mark.slow
def test_captum_is_imported_when_it_is_used_and_four_gradient_maskers_work_without_it():
    command = [sys.executable, "-c", PROBE]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    refused, loaded = said.strip().rsplit("\n", 1)
    assert "pip install 'saliencykit[captum]'" in refused
    assert "saliencykit/captum" not in loaded
    assert loaded.split()[1].startswith("captum.attr")
