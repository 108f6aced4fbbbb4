"""Guided backpropagation, deconvolution and guided Grad-CAM: gradients with another rule at every
ReLU.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

from saliencykit.core import checks
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import ContractError, GradientError, InputError
from saliencykit.core.masker import Masker, MaskerOutput, resize_maps
from saliencykit.core.types import Images, Labels
from saliencykit.maskers.cam.grad_cam import GradCam
from saliencykit.maskers.gradient.captum_method import Channels, Sign, found, words
from saliencykit.maskers.normalize import NONFINITE_HINT

Rule: TypeAlias = Literal["guided", "deconvolution"]

_AT_ONCE = 8  # images for a box that names no limit: the graph of all of them is held
_RELUS = (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
_PLACED = (F.relu, F.relu6, F.hardtanh)  # `inplace` is their last argument
_UNRULED = (
    "Gelu",
    "Silu",
    "Hardswish",
    "Elu",
    "LeakyRelu",
    "Mish",
    "Softplus",
    "Relu",
    "Hardtanh",
    "Prelu",
    "Rrelu",
    "Celu",
    "Selu",
)
_INSTEAD = (
    "Use masker='gradient', 'integrated-gradients' or 'smoothgrad', which take any activation."
)


@final
@dataclass(frozen=True, kw_only=True)
class RectifiedGradient(Masker):
    """The gradient of the label's logit, with what flows back through each ReLU rectified too.

    One forward and one backward pass. Sharp, and nearly the same for every label: it shows edges
    that the network reads rather than the evidence for a label (Nie et al. 2018), so multiply it
    with Grad-CAM, or take it as a baseline.

    The rule holds at every ReLU and ReLU6 that the model runs, whether a module, a function, in
    place or used twice; each ReLU's input is treated on its own, also where the same tensor goes
    around the ReLU in a skip connection. Where all ReLUs are modules with an input of their own
    these are Captum's numbers. A model with another activation (GELU, SiLU, ...) is refused: the
    rule is not defined there, and without one it would be the plain gradient.

    Args:
        rule: `guided`: what flows back must be positive, and the ReLU's input was positive.
            `deconvolution`: it must be positive.
        sign: The part of a score that becomes the mask, divided by the largest in the picture:
            `absolute`, since like a gradient's its sign says whether brighter or darker; or
            `positive`.
        channels: What the score is made of: the channel of the largest magnitude (`max`), their
            `sum` or their `mean`.

    Raises:
        InputError: A word is not one of those above; or the model has no ReLU, or another
            activation, or one that cannot be seen.

    Example:
        >>> from saliencykit.black_boxes.torch_module import TorchBlackBox
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(4))
        >>> black_box, images = TorchBlackBox(net, size=16), torch.rand(2, 3, 16, 16)
        >>> RectifiedGradient()(black_box, images, torch.tensor([0, 3]), generator=Generator()).shape
        torch.Size([2, 1, 16, 16])

    References:
        Springenberg et al. 2015, "Striving for Simplicity", section 3.4, figure 1; Zeiler & Fergus
        2014, section 2.1, for deconvolution; Nie et al. 2018 for what it does not show.
    """

    rule: Rule = "guided"
    sign: Sign = "absolute"
    channels: Channels = "max"

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the words."""
        words(self, self.sign, self.channels)
        if self.rule not in ("guided", "deconvolution"):
            raise InputError(
                f"RectifiedGradient(rule={self.rule!r}): it is 'guided' or 'deconvolution'."
            )

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """The signed score of each pixel, and its magnitude or positive part as the mask."""
        size = black_box.max_batch or _AT_ONCE
        parts = [
            self._slopes(black_box, *rows)
            for rows in zip(torch.split(images, size), torch.split(labels, size), strict=True)
        ]
        return found(torch.cat(parts), self.sign, self.channels)

    def _slopes(self, black_box: BlackBox, images: Images, labels: Labels) -> Tensor:
        inputs = images.clone().requires_grad_()
        with torch.enable_grad(), _Rectifying(self.rule) as seen:
            logits = black_box(inputs)
        if not logits.requires_grad:
            raise GradientError(
                f"the logits of {checks.name_of(black_box)} do not depend on the images in autograd. "
                f"{_INSTEAD}"
            )
        _refuse_others(logits, seen.count, checks.name_of(black_box.module or black_box))
        asked = logits.gather(1, labels[:, None]).sum()
        (slopes,) = torch.autograd.grad(asked, inputs)
        if bad := checks.finite_rows(slopes):
            raise ContractError(
                f"RectifiedGradient: the gradient is NaN or infinite in row {bad[0]} of "
                f"{len(images)}; {NONFINITE_HINT}"
            )
        return slopes


@final
@dataclass(frozen=True, kw_only=True)
class GuidedGradCam(Masker):
    """Guided backpropagation where Grad-CAM is positive: fine edges, of the label's object.

    Two forward passes and a backward one. The score is their product, Grad-CAM's positive part
    enlarged bilinearly; the mask is its magnitude divided by the largest, since guided
    backpropagation's sign says whether brighter or darker.

    Args:
        layer: For Grad-CAM, see there.
        channels: See RectifiedGradient.

    Raises:
        InputError: The model has no ReLU or another activation, or Grad-CAM finds no layer.

    Example:
        >>> from saliencykit.black_boxes.torch_module import TorchBlackBox
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(4))
        >>> black_box, images = TorchBlackBox(net, size=16), torch.rand(2, 3, 16, 16)
        >>> GuidedGradCam()(black_box, images, torch.tensor([0, 3]), generator=Generator()).shape
        torch.Size([2, 1, 16, 16])

    References:
        Selvaraju et al. 2017, "Grad-CAM", section 3.2.
    """

    layer: str | None = None
    channels: Channels = "max"

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the word."""
        words(self, "absolute", self.channels)

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """The signed product, and its magnitude as the mask."""
        where = GradCam(layer=self.layer).mask(black_box, images, labels, generator).attributions
        what = (
            RectifiedGradient(channels=self.channels)
            .mask(black_box, images, labels, generator)
            .attributions
        )
        assert where is not None
        assert what is not None
        return found(what * resize_maps(where.clamp_min(0), images.shape[2:]), "absolute", "sum")


def guided_backprop() -> RectifiedGradient:
    """Guided backpropagation: the gradient, with what flows back through each ReLU rectified; see
    `RectifiedGradient`.

    Example:
        >>> guided_backprop().rule
        'guided'

    References:
        Springenberg et al. 2015, "Striving for Simplicity", section 3.4, figure 1.
    """
    return RectifiedGradient(rule="guided")


def deconvolution() -> RectifiedGradient:
    """A deconvolutional network's picture of the logit: at each ReLU only what flows back counts;
    see `RectifiedGradient`.

    Example:
        >>> deconvolution().rule
        'deconvolution'

    References:
        Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 2.1.
    """
    return RectifiedGradient(rule="deconvolution")


@final
class _Rectify(torch.autograd.Function):
    """ReLU, or ReLU6 with a ceiling, with the rule on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ceiling: float, rule: Rule, in_place: bool) -> Tensor:
        ctx.ceiling, ctx.rule = ceiling, rule
        if in_place:
            ctx.mark_dirty(x)
        out = (
            F.hardtanh(x, 0.0, ceiling, in_place) if ceiling < float("inf") else F.relu(x, in_place)
        )
        if rule == "guided":
            ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        if (
            ctx.rule == "guided"
        ):  # where the output is neither 0 nor at the ceiling, the input was between
            (out,) = ctx.saved_tensors
            if ctx.ceiling < float("inf"):
                grad = torch.ops.aten.hardtanh_backward(grad, out, 0.0, ctx.ceiling)
            else:
                grad = torch.ops.aten.threshold_backward(grad, out, 0.0)
        return grad.clamp_min(0), None, None, None


@final
class _Rectifying(TorchFunctionMode):
    """While it is on, every ReLU that is called follows the rule; counts them."""

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule, self.count = rule, 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        ceiling = _ceiling(func, args, given)
        x = args[0] if args else given.get("input")
        if (
            ceiling is None
            or not isinstance(x, Tensor)
            or not x.is_floating_point()
            or not x.requires_grad
        ):
            return func(*args, **given)
        self.count += 1
        named = getattr(func, "__name__", "").endswith("_") or (
            func in _PLACED and args[-1] is True
        )
        return _Rectify.apply(x, ceiling, self.rule, named or bool(given.get("inplace")))


def _ceiling(func: Any, args: Any, given: Mapping[str, Any]) -> float | None:
    """Up to where the function hands on what it gets, if it is a ReLU; else None."""
    if func in _RELUS:
        return float("inf")
    if func is F.relu6:
        return 6.0
    if func in (F.hardtanh, F.hardtanh_):
        low = args[1] if len(args) > 1 else given.get("min_val", -1.0)
        return float(args[2] if len(args) > 2 else given.get("max_val", 1.0)) if low == 0 else None
    return None


def _refuse_others(logits: Tensor, count: int, model: str) -> None:
    """Raise InputError if the graph holds activations that the rule did not reach."""
    seen, stack, others = set(), [logits.grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        stack.extend(next_node for next_node, _ in node.next_functions)
        name = node.name().removesuffix("0").removesuffix("1").removesuffix("Backward")
        if name.removeprefix("Native") in _UNRULED:
            others.add(name)
    if others or not count:
        what = (
            f"also runs {', '.join(sorted(others))}" if others else "runs no ReLU that can be seen"
        )
        raise InputError(
            f"guided backpropagation and deconvolution are rules for ReLUs, and {model} {what}. "
            f"{_INSTEAD}"
        )
