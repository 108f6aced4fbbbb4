"""Many evaluations of one model: borrowing it, a frozen copy that runs faster, and the batch that
suits it.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

# bytes; glibc gives larger blocks back after every layer, and each use faults its pages in again
_COMFORT = 32 * 2**20
# convolutions that are linear in `.weight`; weight-standardised ones are not
_LINEAR = (
    "Conv2d",
    "Conv2dSame",
)
_NUMBERS = ("running_mean", "running_var", "weight", "bias")
_NORMS = ("BatchNorm2d", "BatchNormAct2d", "FrozenBatchNorm2d", "FrozenBatchNormAct2d")


@contextmanager
def borrowed(model: nn.Module) -> Iterator[None]:
    """The model in eval mode; its own flags and the global random state of torch are put back at
    the end.
    """
    training = [module for module in model.modules() if getattr(module, "training", False)]
    for module in training:
        module.training = False  # and not .eval(), which is the user's code
    try:
        with same_random_state():
            yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def same_random_state() -> Iterator[None]:
    """Put torch's global CPU random state back at the end: for a model that draws in eval mode, or
    one being built.
    """
    state = torch.get_rng_state()
    try:
        yield
    finally:
        if not torch.equal(state, torch.get_rng_state()):
            torch.set_rng_state(state)


@final
@dataclass(frozen=True)
class Frozen:
    """What to evaluate many times: the copy (or the model itself where copying fails), and how many
    images at once.
    """

    model: nn.Module
    batch: int


def freeze(model: nn.Module, images: Tensor) -> Frozen:
    """A copy in eval mode without gradients, batch norms folded into the convolutions, in
    channels_last.

    The folded copy must answer like a plain one on two pictures at once, to 1e-3 of the answers'
    range, else the plain copy is used. Nothing is traced: the copy is the model's own Python code,
    so control flow, odd `__call__` methods and hooks work as they did (all that is assumed is that
    a convolution that was seen to feed a norm always feeds it). The model is only read.

    Args:
        model: Any module that answers with a tensor, or something that holds one.
        images: (B, C, H, W), what the model will get many of; the first two are tried.

    Returns:
        The copy, and on a CPU the batch whose largest activation stays under 32 MB; elsewhere at
        most 64, as memory allows.

    References:
        Folding: Jacob et al. 2018, "Quantization and Training of Neural Networks", section 3.2.
    """
    probe = torch.cat(
        [images[:1], images[1:2] if len(images) > 1 else images[:1].flip(-1) * 0.5]
    ).detach()
    with torch.inference_mode(False), torch.no_grad():
        probe = probe.clone() if probe.is_inference() else probe
        twin = _copied(model)
        if twin is None:
            with borrowed(model):
                return Frozen(model, _measured(model, probe)[1])
        with same_random_state():
            pairs = _Pairs(twin)
            try:
                wanted, batch = _measured(twin, probe)
            # it may take one image at a time only; if it takes none, the caller's own question will
            # say why
            except Exception:
                return Frozen(twin, 1)
            finally:
                pairs.forget()
            if not pairs and sum(isinstance(module, nn.Conv2d) for module in twin.modules()) < 2:
                return Frozen(twin, batch)  # a transformer: nothing to gain
            for prepare in (_fold_and_reorder(pairs), _back_in_order):
                if _agrees(prepare, twin, probe, wanted):
                    return Frozen(twin, batch)
        del twin, pairs  # never two copies at once
        return Frozen(_copied(model) or model, batch)


def _copied(model: nn.Module) -> nn.Module | None:
    """A frozen deep copy without compiled or parallel wrappers, or None where the model cannot be
    copied.
    """
    try:
        twin = copy.deepcopy(unwrapped(model))
        for module in list(twin.modules()):
            for name, child in list(module._modules.items()):
                if child is not None and unwrapped(child) is not child:
                    module._modules[name] = unwrapped(child)
            if "_compiled_call_impl" in module.__dict__:
                module._compiled_call_impl = None
            if getattr(module, "training", False):
                module.training = False
        return twin.requires_grad_(False)
    except (
        Exception
    ):  # un-copyable state: locks, open files, activations kept by hooks, no memory left
        return None


def unwrapped(model: nn.Module) -> nn.Module:
    """The user's own module inside `torch.compile`, DataParallel and DistributedDataParallel."""
    while True:
        if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model


def _measured(model: nn.Module, probe: Tensor) -> tuple[Tensor | None, int]:
    sizes = _Sizes()
    with sizes:
        answer = model(probe * 1)
    largest, total = max(1, sizes.largest // len(probe)), max(1, sizes.total // len(probe))
    if probe.device.type == "cpu":
        # glibc learns from the largest block ever given back what to keep: one of 32 MB, never
        # touched, stops it from returning
        # the pages of smaller activations after every layer (up to 3000 page faults an image, a
        # third of MobileNetV2's time)
        torch.empty(_COMFORT - 2**16, dtype=torch.uint8)
        return _first_tensor(answer), max(1, min(32, _COMFORT // largest))
    room = torch.cuda.mem_get_info(probe.device)[0] if probe.device.type == "cuda" else 4 * 2**30
    return _first_tensor(answer), max(1, min(64, room // 2 // total))


def _agrees(
    prepare: Callable[[nn.Module], None], twin: nn.Module, probe: Tensor, wanted: Tensor | None
) -> bool:
    try:
        prepare(twin)
        got = _first_tensor(twin(probe * 1))
    except (
        Exception
    ):  # a `.view` that channels_last forbids, code that reads a batch norm's weights
        return False
    if wanted is None or got is None or got.shape != wanted.shape:
        return False
    share = 1e-3 if wanted.dtype in (torch.float32, torch.float64) else 5e-2
    scale = (wanted.max() - wanted.min()) + 1e-2 * wanted.abs().max()
    return bool((got - wanted).abs().max() <= share * scale)


def _fold_and_reorder(pairs: "_Pairs") -> Callable[[nn.Module], None]:
    def prepare(twin: nn.Module) -> None:
        pairs.fold()
        twin.to(memory_format=torch.channels_last)

    return prepare


def _back_in_order(twin: nn.Module) -> None:
    twin.to(memory_format=torch.contiguous_format)


@final
class _Pairs:
    """Watches one run for convolutions whose output goes straight into a batch norm."""

    def __init__(self, model: nn.Module) -> None:
        self._found: list[tuple[nn.Conv2d, nn.Module]] = []
        self._calls: dict[nn.Module, int] = {}
        self._last: tuple[nn.Conv2d, Tensor] | None = None
        self._handles = []
        for module in model.modules():
            name = type(module).__name__
            if (
                isinstance(module, nn.Conv2d)
                and name in _LINEAR
                and _whole(module)
                and not module._forward_hooks
            ):
                self._handles.append(module.register_forward_hook(self._after_conv))
            elif (
                name in _NORMS
                and isinstance(getattr(module, "running_mean", None), Tensor)
                and not _hooked(module)
            ):
                self._handles.append(module.register_forward_pre_hook(self._before_norm))

    def _after_conv(self, conv: nn.Module, args: Any, out: Any) -> None:
        assert isinstance(conv, nn.Conv2d)
        self._calls[conv] = self._calls.get(conv, 0) + 1
        self._last = (conv, out) if isinstance(out, Tensor) else None

    def _before_norm(self, norm: nn.Module, args: Any) -> None:
        self._calls[norm] = self._calls.get(norm, 0) + 1
        if self._last is not None and args and args[0] is self._last[1]:
            self._found.append((self._last[0], norm))
        self._last = None

    def __bool__(self) -> bool:
        return bool(self._found)

    def forget(self) -> None:
        """Take the hooks off and let go of activations."""
        self._last = None
        for handle in self._handles:
            handle.remove()

    def fold(self) -> None:
        """Put each batch norm into its convolution; the norm then only hands on, through its own
        activation if it has one.
        """
        for conv, norm in self._found:
            if self._calls[conv] != 1 or self._calls[norm] != 1:
                continue
            mean, var, weight, shift = (
                cast("Tensor | None", getattr(norm, key)) for key in _NUMBERS
            )
            assert mean is not None
            assert var is not None
            scale = torch.rsqrt(var + cast(float, norm.eps)) * (1 if weight is None else weight)
            bias = ((0 if conv.bias is None else conv.bias) - mean) * scale + (
                0 if shift is None else shift
            )
            conv.weight = nn.Parameter(conv.weight * scale.view(-1, 1, 1, 1), requires_grad=False)
            conv.bias = nn.Parameter(bias, requires_grad=False)
            rest = [
                part
                for part in (getattr(norm, "drop", None), getattr(norm, "act", None))
                if isinstance(part, nn.Module)
            ]
            norm.forward = _Onward(rest)


@final
@dataclass(frozen=True)
class _Onward:
    """What is left of a folded batch norm."""

    rest: list[nn.Module]

    def __call__(self, x: Tensor) -> Tensor:
        for part in self.rest:
            x = part(x)
        return x


def _whole(conv: nn.Conv2d) -> bool:
    """Is the weight the layer's own parameter (not made by a weight norm), in a type that keeps its
    digits when scaled?
    """
    return conv._parameters.get("weight") is not None and conv.weight.dtype in (
        torch.float32,
        torch.float64,
    )


def _hooked(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


@final
class _Sizes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of everything that is computed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                size = tensor.numel() * tensor.element_size()
                self.largest, self.total = max(self.largest, size), self.total + size
        return out


def _first_tensor(answer: object) -> Tensor | None:
    if isinstance(answer, Tensor):
        return answer
    values = (
        answer.values()
        if isinstance(answer, dict)
        else answer
        if isinstance(answer, tuple | list)
        else ()
    )
    return next(
        (value for value in values if isinstance(value, Tensor)), getattr(answer, "logits", None)
    )
