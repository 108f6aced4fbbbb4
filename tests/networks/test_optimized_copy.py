"""The frozen copy: the same answers, faster, and the model left alone."""

import copy
import gc
import threading
import time
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from saliencykit.networks.module_state import restored_rng_state, unwrap
from saliencykit.networks.optimized_copy import optimize


class Residual(nn.Module):
    """Convolution, norm and activation, with a shortcut."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=2)
        self.bn2 = nn.BatchNorm2d(width, affine=False)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.bn1(self.conv1(x)))
        x = torch.relu_(self.bn2(self.conv2(x)) + x)
        return self.head(x.mean((2, 3)))


def trained(model: nn.Module) -> nn.Module:
    """With norms that do something."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.3, 3)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.uniform_(module.bias, -1, 1)
    return model


def images(count: int = 3, side: int = 12) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def answers(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return copy.deepcopy(model).eval()(x)


def norms_at_work(model: nn.Module) -> int:
    return sum(
        isinstance(m, nn.BatchNorm2d) and "forward" not in m.__dict__ for m in model.modules()
    )


def test_the_copy_folds_and_agrees_for_any_batch() -> None:
    model = trained(Residual())
    frozen = optimize(model, images(1)).model
    assert frozen is not model
    assert norms_at_work(frozen) == 0
    assert not any(p.requires_grad for p in frozen.parameters())
    for count in (1, 2, 5):
        torch.testing.assert_close(
            frozen(images(count)), answers(model, images(count)), atol=1e-5, rtol=1e-4
        )


def test_the_model_is_only_read() -> None:
    model = trained(Residual()).train()
    model.bn1.eval()
    model.conv1.requires_grad_(False)
    handle = model.conv2.register_forward_hook(lambda *_: None)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    optimize(model, images(1))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [m.training for m in model.modules()] == [True, True, False, True, True, True]
    assert not model.conv1.weight.requires_grad
    assert model.conv2.weight.requires_grad
    assert len(model.conv2._forward_hooks) == 1
    assert not model.bn1._forward_pre_hooks
    assert "forward" not in model.bn1.__dict__
    assert torch.equal(torch.get_rng_state(), state)
    handle.remove()


def test_gradients_flow_to_the_images() -> None:
    model = trained(Residual()).eval()
    x = images(2).requires_grad_()
    frozen = optimize(model, images(1)).model
    (ours,) = torch.autograd.grad(frozen(x)[:, 1].sum(), x)
    (theirs,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)


def test_the_copy_is_freed_with_its_holder() -> None:
    frozen = optimize(trained(Residual()), images(1))
    gone = weakref.ref(frozen.model)
    del frozen
    gc.collect()
    assert gone() is None


class Twice(Residual):
    """One convolution and norm used twice: the pair cannot be told apart."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x))
        return self.head(self.bn2(self.conv2(self.bn2(self.conv2(x)))).mean((2, 3)))


class Peeking(Residual):
    """The convolution's output is used beside the norm too: folding would change the answer."""

    def forward(self, x: Tensor) -> Tensor:
        raw = self.conv1(x)
        return self.head((self.bn1(raw) * raw).mean((2, 3)))


class Deciding(Residual):
    """Control flow that depends on the data and on the batch, with a branch that the probe never
    takes.
    """

    def forward(self, x: Tensor) -> Tensor:
        dark = float(x.mean()) < 0.1
        x = self.bn1(self.conv1(x))
        if dark:
            x = self.bn2(self.conv2(x))
        return self.head(x.mean((2, 3))) * (2 if len(x) > 3 else 1)


class Calling(Residual):
    """A `__call__` that does more than forward."""

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(1 - x) * 3


class Viewing(nn.Module):
    """`view` across channels and positions, which channels_last forbids."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.head = (
            nn.Conv2d(3, 8, 3, stride=4),
            nn.BatchNorm2d(8),
            nn.Linear(72, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.bn(self.conv(x)).view(len(x), -1))


@pytest.mark.parametrize("kind", [Twice, Peeking, Deciding, Calling, Viewing])
def test_models_that_a_tracer_would_get_wrong(kind: type[nn.Module]) -> None:
    model = trained(kind())
    for probe in (images(1), images(2)):
        frozen = optimize(model, probe).model
        assert frozen is not model
        for count in (1, 2, 4):
            torch.testing.assert_close(
                answers(frozen, images(count)), answers(model, images(count)), atol=1e-4, rtol=1e-3
            )
    dark = images(2) * 0.01
    torch.testing.assert_close(answers(frozen, dark), answers(model, dark), atol=1e-4, rtol=1e-3)


def test_viewing_is_still_folded_and_peeking_is_not() -> None:
    assert norms_at_work(optimize(trained(Viewing()), images(1)).model) == 0
    assert norms_at_work(optimize(trained(Peeking()), images(1)).model) == 2


def in_place(model: "OneNorm", x: Tensor) -> Tensor:
    return model.bn(torch.relu_(model.conv(x)))


def in_place_without_autograd(model: "OneNorm", x: Tensor) -> Tensor:
    x = model.conv(x)
    x.data.relu_()
    return model.bn(x)


def in_a_view(model: "OneNorm", x: Tensor) -> Tensor:
    x = model.conv(x)
    x[:, :2].relu_()
    return model.bn(x)


def added_before(model: "OneNorm", x: Tensor) -> Tensor:
    raw = model.conv(x)
    raw.add_(x.mean(1, keepdim=True) < 0.2)
    return model.bn(raw)


def residual(model: "OneNorm", x: Tensor) -> Tensor:
    raw = model.conv(x)
    return model.bn(raw).add_((x.mean(1, keepdim=True) < 0.2) * raw)


def two_norms(model: "OneNorm", x: Tensor) -> Tensor:
    raw = model.conv(x)
    return model.bn(raw) + (x.mean(1, keepdim=True) < 0.2) * model.other(raw)


def through_a_view(model: "OneNorm", x: Tensor) -> Tensor:
    return model.bn(model.conv(x).view(len(x), 8, *x.shape[2:]))


def in_place_after(model: "OneNorm", x: Tensor) -> Tensor:
    return torch.relu_(model.bn(model.conv(x)))


def added_after(model: "OneNorm", x: Tensor) -> Tensor:
    x = model.bn(model.conv(x))
    x += x.mean((2, 3), keepdim=True)
    x[:, 0].relu_()
    return x


def over_its_input(model: "OneNorm", x: Tensor) -> Tensor:
    normed = model.bn(model.conv(x))
    return normed + x.relu_().mean(1, keepdim=True)


class OneNorm(nn.Module):
    """A convolution that is above 0 on bright images, a norm, and a way to use both."""

    def __init__(self, use: Callable[["OneNorm", Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.bn, self.other = (
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.BatchNorm2d(8),
        )  # fmt: skip
        nn.init.uniform_(self.conv.weight, 0.5, 1)
        nn.init.constant_(self.conv.bias, -1)
        self.use, self.head = use, nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.use(self, x * 1).mean((2, 3)))


@pytest.mark.parametrize(
    ("use", "folded"),
    [(use, False) for use in (
        in_place, in_place_without_autograd, in_a_view, added_before, residual, two_norms,
        through_a_view,
    )] + [(use, True) for use in (in_place_after, added_after, over_its_input)],
)  # fmt: skip
def test_a_norm_is_folded_only_where_nothing_else_touches_its_input(
    use: Callable[[OneNorm, Tensor], Tensor], folded: bool
) -> None:
    """On the bright probe all of these agree when folded; on a dark image they do not."""
    model = trained(OneNorm(use))
    frozen = optimize(model, images(1) * 0.5 + 0.5).model
    assert norms_at_work(frozen) == (2 - folded)
    dark = images(3) * 0.1
    torch.testing.assert_close(answers(frozen, dark), answers(model, dark), atol=1e-5, rtol=1e-4)


def test_hooks_are_part_of_the_model() -> None:
    model = trained(Residual())
    model.conv1.register_forward_pre_hook(
        lambda _, args: (nn.functional.pad(args[0], (1, 0, 1, 0)),)
    )
    model.bn1.register_forward_hook(lambda _, args, out: out * 2)
    frozen = optimize(model, images(1)).model
    torch.testing.assert_close(frozen(images()), answers(model, images()), atol=1e-5, rtol=1e-4)
    assert norms_at_work(frozen) == 1  # the norm with a hook is kept


def test_hooks_of_the_backward_pass_do_not_get_an_activation_in_place() -> None:
    """A hook makes a view of the convolution's output, which a folded norm would pass on."""
    model = trained(Residual())
    model.conv1.register_full_backward_pre_hook(lambda *_: None)
    frozen = optimize(model, images(1)).model
    few = images().requires_grad_()
    assert torch.autograd.grad(frozen(few).sum(), few)[0].any()
    assert norms_at_work(frozen) == 1


def test_weight_norm_and_float64_and_half() -> None:
    model = trained(Residual())
    nn.utils.parametrizations.weight_norm(model.conv1)
    nn.utils.spectral_norm(model.conv2)
    model.eval()
    torch.testing.assert_close(
        optimize(model, images(1)).model(images()), answers(model, images()), atol=1e-5, rtol=1e-4
    )
    double = trained(Residual()).double()
    torch.testing.assert_close(
        optimize(double, images(1).double()).model(images().double()),
        answers(double, images().double()),
    )
    half = trained(Residual()).bfloat16()
    assert torch.equal(
        optimize(half, images(1).bfloat16()).model(images().bfloat16()),
        answers(half, images().bfloat16()),
    )


def test_what_deepcopy_cannot_copy_is_optimized_all_the_same() -> None:
    model = trained(Residual()).train()
    # deepcopy refuses what has a history, and locks
    model.kept = model.conv1(images()).mean() * model.conv1.weight
    model.lock = threading.Lock()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    frozen = optimize(model, images(1))
    assert norms_at_work(frozen.model) == 0
    assert frozen.max_batch_size > 1
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_model_of_one_image_at_a_time() -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(432, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x.reshape(1, 432))

    assert optimize(Single(), images(1)).max_batch_size == 1


def test_compiled_parallel_and_script_models() -> None:
    model = trained(Residual()).eval()
    wanted = answers(model, images())
    assert unwrap(torch.compile(model)) is model
    assert unwrap(nn.DataParallel(model)) is model
    for other in (
        torch.compile(model),
        nn.DataParallel(model),
        torch.jit.script(model),
        torch.jit.trace(model, images()),
    ):
        frozen = optimize(other, images(1)).model
        assert not isinstance(frozen, nn.DataParallel)
        torch.testing.assert_close(frozen(images()), wanted, atol=1e-5, rtol=1e-4)


def test_under_inference_mode_the_copy_can_still_be_differentiated() -> None:
    with torch.inference_mode():
        model = trained(Residual())  # its parameters are inference tensors, which autograd refuses
        frozen = optimize(model.eval(), images(1)).model
    x = images(1).requires_grad_()
    (gradient,) = torch.autograd.grad(frozen(x).sum(), x)
    assert gradient.abs().sum() > 0


def test_batches_keep_activations_small() -> None:
    wide = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert optimize(wide, torch.rand(1, 3, 128, 128)).max_batch_size == 32 * 2**20 // (
        64 * 128 * 128 * 4
    )
    assert optimize(wide, torch.rand(1, 3, 8, 8)).max_batch_size == 32
    assert optimize(wide, torch.rand(1, 3, 512, 512)).max_batch_size == 1


def test_the_random_state_is_put_back() -> None:
    state = torch.get_rng_state()
    with restored_rng_state():
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), state)


def test_mobilenet_is_frozen_in_a_few_forward_passes() -> None:
    from torchvision.models import mobilenet_v2

    model = mobilenet_v2().eval()
    x = torch.rand(1, 3, 224, 224)
    answers(model, x)
    seconds, forward = [], []
    for _ in range(3):
        start = time.process_time()
        optimize(model, x)
        middle = time.process_time()
        answers(model, torch.cat([x, x]))
        seconds.append(middle - start)
        forward.append(time.process_time() - middle)
    assert min(seconds) < max(0.3, 4 * min(forward))
