"""TorchBlackBox: any torch module, borrowed and given back as it was."""

import copy
import re
import threading
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from saliencykit import explain
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import ContractError, InputError, SaliencyKitError
from tests.helpers import fixed, seeded


def small(channels: int = 3, classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.ReLU(inplace=True),  # the first layer writes into its input
        nn.Conv2d(channels, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, classes),
    )


class Answering(nn.Module):
    """Answers with whatever a function makes of the logits."""

    def __init__(self, answer) -> None:
        super().__init__()
        self.inner, self.answer = small(), answer

    def forward(self, x: Tensor) -> object:
        return self.answer(self.inner(x))


def images(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 9, 9, generator=torch.Generator().manual_seed(1))


def test_the_model_comes_back_as_it_was_and_runs_in_eval_mode() -> None:
    model = small().train()
    model[2].eval()
    model[1].requires_grad_(False)
    seen: list[bool] = []
    model[7].register_forward_hook(lambda module, args, out: seen.append(module.training))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    x = images()
    kept = x.clone()
    black_box = TorchBlackBox(model, mean=(0.5,) * 3, std=(0.5,) * 3)
    first, second = black_box(x), black_box(x)
    assert torch.equal(first, second)
    assert not any(seen)
    assert torch.equal(x, kept)
    assert model.training
    assert not model[2].training
    assert not model[1].weight.requires_grad
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_flags_are_put_back_when_the_model_raises() -> None:
    model = Answering(lambda out: 1 / 0).train()
    with pytest.raises(InputError, match="Answering raised ZeroDivisionError on images of shape"):
        TorchBlackBox(model)(images())
    assert all(module.training for module in model.modules())


def test_normalizing() -> None:
    model = small().eval()
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    normal = (images() - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    black_box = TorchBlackBox(model, mean=mean, std=std)
    torch.testing.assert_close(black_box(images()), model(normal.clone()), atol=1e-6, rtol=1e-5)
    assert black_box.baseline_color == mean
    plain = black_box.without_preprocessing()
    assert plain.baseline_color is None
    torch.testing.assert_close(plain(normal), black_box(images()), atol=1e-6, rtol=1e-5)
    assert plain.num_classes == 5


@pytest.mark.parametrize(
    "answer",
    [
        lambda out: out,
        lambda out: (out, out * 2),
        lambda out: {"logits": out, "x": out},
        lambda out: out[:, :, None, None],
    ],
)
def test_answers_of_every_form(answer) -> None:
    assert TorchBlackBox(Answering(answer))(images()).shape == (3, 5)


def test_gradients_reach_the_images_and_stay_out_of_the_model() -> None:
    model = small()
    black_box = TorchBlackBox(model, mean=(0.5,) * 3, std=(0.5,) * 3)
    x = images().requires_grad_()
    (gradient,) = torch.autograd.grad(black_box(x)[:, 0].sum(), x)
    assert gradient.abs().sum() > 0
    assert all(p.grad is None for p in model.parameters())
    with torch.no_grad():
        assert not black_box(x).requires_grad
    with torch.inference_mode():
        assert black_box(images()).shape == (3, 5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_the_model_runs_in_its_own_precision(dtype: torch.dtype) -> None:
    model = small().to(dtype)
    black_box = TorchBlackBox(model, mean=(0.5,) * 3, std=(0.5,) * 3)
    if dtype == torch.float16:
        try:
            model(images().half())
        except RuntimeError:  # a processor without such kernels
            with pytest.raises(InputError, match=r"model\.float\(\)"):
                black_box(images())
            return
    logits = black_box(images())
    assert logits.dtype == torch.float32
    reference = TorchBlackBox(small(), mean=(0.5,) * 3, std=(0.5,) * 3)(images())
    torch.testing.assert_close(logits, reference, atol=0.05, rtol=0.05)
    torch.testing.assert_close(
        black_box.optimized_for(images())(images()), logits, atol=0.05, rtol=0.05
    )
    doubled = TorchBlackBox(small(), mean=(0.5,) * 3, std=(0.5,) * 3)(images().double())
    assert doubled.dtype == torch.float64


def test_a_missing_half_kernel_is_named() -> None:
    def missing(out: Tensor) -> Tensor:
        raise RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'")

    with pytest.raises(InputError, match=r"torch.float16 .* model.float\(\)"):
        TorchBlackBox(Answering(missing).half())(images())


def test_probabilities() -> None:
    black_box = TorchBlackBox(Answering(lambda out: out.softmax(1)), probabilities=True)
    torch.testing.assert_close(
        black_box(images()).softmax(1), TorchBlackBox(small())(images()).softmax(1)
    )
    with pytest.warns(UserWarning, match="probabilities=True"):
        TorchBlackBox(Answering(lambda out: out.softmax(1)))(images())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TorchBlackBox(small())(images())
    two = TorchBlackBox(Answering(lambda out: out[:, :1].sigmoid()), probabilities=True)
    assert two(images()).shape == (3, 2)
    assert two.num_classes == 2


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (lambda out: out * float("nan"), ContractError, "row 0, 1, 2"),
        (lambda out: out[:1], ContractError, r"\(3, K\)"),
        (lambda out: out.argmax(1), InputError, None),
        (lambda out: out[:, None, :, None], ContractError, r"\(3, 1, 5, 1\)"),
        (lambda out: None, InputError, "NoneType"),
    ],
)
def test_wrong_answers_are_named(answer, error, words) -> None:
    black_box = TorchBlackBox(Answering(answer))
    with pytest.raises(SaliencyKitError, match=words) as caught:
        black_box(images())
    if words is not None:
        assert isinstance(caught.value, error)


def test_the_number_of_classes() -> None:
    black_box = TorchBlackBox(small())
    with pytest.raises(InputError, match="number of classes"):
        _ = black_box.num_classes
    assert black_box(images()).shape == (3, 5)
    assert black_box.num_classes == 5
    assert TorchBlackBox(small(), size=9).num_classes == 5
    gray = TorchBlackBox(small(1), mean=(0.5,), std=(0.5,), size=(8, 9))
    assert gray.num_classes == 5
    named = TorchBlackBox(small(), class_names=["a", "b"])
    with pytest.raises(InputError, match="Sequential has 5 classes, and 2 class_names were given"):
        named(images())


def test_chunks_give_the_same_rows() -> None:
    whole = TorchBlackBox(small())(images(7))
    torch.testing.assert_close(TorchBlackBox(small(), max_batch_size=3)(images(7)), whole)


def test_a_wrong_size_says_which_one_is_right() -> None:
    fixed = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    with pytest.raises(InputError, match="Its own input size is 8x8"):
        TorchBlackBox(fixed, size=8)(images())
    with pytest.raises(InputError, match="3 channels, and mean and std have 1"):
        TorchBlackBox(small(1), mean=(0.5,), std=(0.5,))(images())


def test_images_need_statistics() -> None:
    image = Image.fromarray(np.zeros((30, 40, 3), np.uint8))
    with pytest.raises(
        InputError, match=r"Sequential are unknown, .*Write explain\(TorchBlackBox\(model, mean="
    ):
        TorchBlackBox(small()).prepare(image)
    with pytest.raises(InputError, match="size=224"):
        TorchBlackBox(small(), mean=(0, 0, 0), std=(1, 1, 1)).prepare(image)
    black_box = TorchBlackBox(small(1), mean=(0.5,), std=(0.5,), size=(10, 12), fit="pad")
    prepared, geometry = black_box.prepare(image)
    assert prepared.shape == (1, 1, 10, 12)
    assert geometry.source_size == (30, 40)


@pytest.mark.parametrize(
    "options",
    [
        {"mean": (0.5,)},
        {"mean": (0.5,), "std": (0.5, 0.5)},
        {"mean": (0.5,), "std": (0.0,)},
        {"mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4)},
        {"crop_pct": 0.0},
        {"crop_pct": 1.5},
        {"size": 0},
        {"fit": "stretch"},
        {"interpolation": "spline"},
        {"output": "scores"},
        {"max_batch_size": 0},
    ],
)
def test_bad_options(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        TorchBlackBox(small(), **options)
    with pytest.raises(InputError, match=r"nn\.Module"):
        TorchBlackBox(lambda x: x)


def test_optimized_for_gives_an_independent_black_box() -> None:
    model = small().train()
    before = copy.deepcopy(model.state_dict())
    black_box = TorchBlackBox(
        model, mean=(0.5,) * 3, std=(0.5,) * 3, max_batch_size=2, class_names=list("abcde")
    )
    many = black_box.optimized_for(images())
    assert many.model is not model
    assert many.max_batch_size == 2
    assert many.class_names == list("abcde")
    torch.testing.assert_close(many(images()), black_box(images()), atol=1e-5, rtol=1e-4)
    assert many.optimized_for(images()) is many
    assert many.num_classes == 5
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert TorchBlackBox(model).optimized_for(images()).max_batch_size == 32


def test_a_model_that_draws_leaves_the_random_state_alone() -> None:
    model = Answering(lambda out: out + 0 * torch.randn(()))
    black_box = TorchBlackBox(model)
    state = torch.get_rng_state()
    black_box(images())
    black_box.optimized_for(images())(images())
    assert torch.equal(torch.get_rng_state(), state)


def test_compiled_parallel_and_script_models_answer() -> None:
    wanted = TorchBlackBox(small())(images())
    for model in (
        nn.DataParallel(small()),
        torch.jit.script(small()),
        torch.jit.trace(small().eval(), images()),
    ):
        training = model.training
        torch.testing.assert_close(TorchBlackBox(model)(images()), wanted)
        assert model.training == training
    compiled = torch.compile(small(), backend="eager")
    torch.testing.assert_close(TorchBlackBox(compiled)(images()), wanted)
    assert compiled.training


OWN = "output='sigmoid', probabilities=True"


@pytest.mark.parametrize(
    ("ending", "line"),
    [
        (torch.sigmoid, OWN),
        (lambda z: z.sigmoid_(), OWN),
        (lambda z: {"logits": z.sigmoid().double(), "hidden": z}, OWN),
        (lambda z: (nn.functional.hardsigmoid(z)[:, None, :3].squeeze(1), z.sigmoid()), OWN),
        (lambda z: 1 / (1 + torch.exp(-z)), "may be probabilities.*" + OWN),
        (lambda z: z[:, :1].sigmoid(), "Write probabilities=True"),
        (lambda z: z[:, 0].sigmoid(), "Write probabilities=True"),
        (lambda z: nn.functional.softmax(z, 1), "look like probabilities.*probabilities=True"),
        (lambda z: z.exp() / z.exp().sum(1, keepdim=True), "look like probabilities"),
        # logits that lie in [0, 1]
        (lambda z: nn.functional.linear(z.sigmoid(), torch.eye(5) / 2), None),
        (lambda z: nn.functional.relu(z / z.abs().max()), None),
        (lambda z: nn.functional.relu(z / z.abs().max())[:, :1], None),
        (lambda z: z.log_softmax(1), None),
        (lambda z: z, None),
    ],
)
def test_probabilities_that_are_made_in_forward_are_noticed(ending, line) -> None:
    model = Answering(lambda out: ending(20 * out))
    with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        TorchBlackBox(model)(images())
    said = [str(each.message) for each in caught]
    assert len(said) == (line is not None)
    if line is not None:
        assert re.search(line, said[0]), said
        options = re.search(r"rite (.*) where", said[0])
        assert options is not None
        TorchBlackBox(model, **eval(f"dict({options[1]})"))(images())  # the line that is written


class Counting(nn.Module):
    """Counts in its buffers, in place and not, also in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small()[1:]
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        self.mean = 0.9 * self.mean + 0.1 * images.mean((0, 2, 3))
        return self.net(images - self.mean.view(-1, 1, 1))


@pytest.mark.parametrize(
    "masker", ["cam", "gradient", "rise:samples=8", "iterative:steps=2,areas=(0.2,0.2)"]
)
@pytest.mark.parametrize("training", [False, True])
def test_a_model_that_counts_in_its_buffers_comes_back_as_it_was(masker, training):
    model, images = Counting().train(training), torch.rand(2, 3, 16, 16, generator=seeded())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    held = dict(model.named_buffers())
    explanations = [explain(model, images, masker=masker, inputs="raw") for _ in range(2)]
    assert torch.equal(explanations[0].mask, explanations[1].mask)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value is held[name] for name, value in model.named_buffers())


def test_a_model_made_in_inference_mode_has_gradients_too():
    with torch.inference_mode():
        made = fixed(small)
    masks = [explain(model, images(), 0, masker="gradient").mask for model in (made, fixed(small))]
    assert torch.equal(*masks)


class FirstImages(nn.Module):
    """Sets its weights by the first images that it sees (ActNorm of Glow)."""

    def __init__(self, through_data: bool) -> None:
        super().__init__()
        self.net, self.shift = small()[1:], nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.register_buffer("ready", torch.tensor(False))
        self.through_data = through_data

    def forward(self, images: Tensor) -> Tensor:
        if not self.ready:
            with torch.no_grad():
                shift = self.shift.data if self.through_data else self.shift
                shift.copy_(images.mean((0, 2, 3), keepdim=True))
                self.ready.fill_(True)
        return self.net(images - self.shift)


@pytest.mark.parametrize("through_data", [False, True])
def test_a_model_that_sets_its_weights_when_queried_is_refused_and_comes_back(
    through_data, monkeypatch
):
    # beside other threads a change of weights may be a training's
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    model, given = FirstImages(through_data).eval(), torch.rand(1, 3, 16, 16)
    with pytest.raises(InputError, match=r"writes into its own weights .* model\(images\)"):
        explain(model, given, 0, masker="gradient")
    assert not model.shift.any()
    assert not model.ready
    model(given)
    assert explain(model, given, 0, masker="gradient").mask.any()
