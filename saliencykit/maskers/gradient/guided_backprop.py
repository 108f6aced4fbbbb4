"""Guided backpropagation, deconvolution and guided Grad-CAM: a modified gradient at every ReLU."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.masker import resize_maps
from saliencykit.core.types import Images, Labels, Logits
from saliencykit.maskers.cam.grad_cam import GradCam
from saliencykit.maskers.gradient.pixel_attribution import (
    PixelAttribution,
    batch_size_of,
    input_gradient,
)

ReluRule: TypeAlias = Literal["guided", "deconvolution"]

_RELUS = (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
_INPLACE_LAST = (F.relu, F.relu6, F.hardtanh)  # `inplace` is their last argument
_OTHER_ACTIVATIONS = {
    "Gelu", "Silu", "Hardswish", "Elu", "LeakyRelu", "Mish", "Softplus", "Relu", "Hardtanh",
    "Prelu", "Rrelu", "Celu", "Selu",
}  # fmt: skip


@final
@dataclass(frozen=True, kw_only=True)
class RectifiedGradient(PixelAttribution):
    """The gradient of the label's logit, with a rectified gradient at every ReLU.

    One forward and one backward pass. Sharp, and nearly the same for every label: it shows edges
    that the network reads rather than evidence for a label (Nie et al. 2018). Multiply it with
    Grad-CAM, or use it as a baseline.

    The rule holds at every ReLU and ReLU6 that the model calls, whether a module or a function, in
    place or shared. Where every ReLU is a module with an input of its own, the results are
    Captum's. Models with other activations (GELU, SiLU, ...) are refused: the rule is not defined
    there, and without a rule the result would be the plain gradient.

    Args:
        rule: `guided`: a gradient passes a ReLU where it is positive and the ReLU's input was
            positive. `deconvolution`: where it is positive.
        sign: See `PixelAttribution`.
        channels: See `PixelAttribution`.

    Raises:
        InputError: `rule` is unknown; or the model has no ReLU that can be intercepted, or another
            activation.

    Example:
        >>> from saliencykit.black_boxes import TorchBlackBox
        >>> from saliencykit.testing import small_network
        >>> black_box, images = TorchBlackBox(small_network(), size=16), torch.rand(2, 3, 16, 16)
        >>> masker = RectifiedGradient()
        >>> masker(black_box, images, torch.tensor([0, 3]), generator=Generator()).shape
        torch.Size([2, 1, 16, 16])

    References:
        Springenberg et al. 2015, "Striving for Simplicity", section 3.4, figure 1; Zeiler & Fergus
        2014, "Visualizing and Understanding Convolutional Networks", section 2.1, for
        deconvolution; Nie et al. 2018, "A Theoretical Explanation for Perplexing Behaviors of
        Backpropagation-based Visualizations".
    """

    rule: ReluRule = "guided"

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        if self.rule not in ("guided", "deconvolution"):
            raise InputError(
                f"RectifiedGradient(rule={self.rule!r}): expected 'guided' or 'deconvolution'."
            )

    def attribution(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Tensor:
        """The rectified gradient, (B, C, H, W)."""

        def query(inputs: Images) -> Logits:
            with _RectifiedRelus(self.rule) as relus:
                logits = black_box(inputs)
            if logits.requires_grad:
                _check_activations(logits, relus.count, name_of(black_box.module or black_box))
            return logits

        who = f"RectifiedGradient of {name_of(black_box)}"
        return input_gradient(query, images, labels, batch_size_of(black_box), who)


@final
@dataclass(frozen=True, kw_only=True)
class GuidedGradCam(PixelAttribution):
    """Guided backpropagation times Grad-CAM: fine edges on the label's object.

    Two forward passes and one backward pass. The factor is the positive part of Grad-CAM, upsampled
    bilinearly.

    Args:
        layer: See `GradCam`.
        sign: See `PixelAttribution`.
        channels: See `PixelAttribution`.

    Raises:
        InputError: The model has no ReLU or another activation, or Grad-CAM finds no layer.

    Example:
        >>> from saliencykit.black_boxes import TorchBlackBox
        >>> from saliencykit.testing import small_network
        >>> black_box, images = TorchBlackBox(small_network(), size=16), torch.rand(2, 3, 16, 16)
        >>> GuidedGradCam()(black_box, images, torch.tensor([0, 3]), generator=Generator()).shape
        torch.Size([2, 1, 16, 16])

    References:
        Selvaraju et al. 2017, "Grad-CAM", section 3.2.
    """

    layer: str | None = None

    def attribution(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Tensor:
        """The product, (B, C, H, W)."""
        coarse = GradCam(layer=self.layer).mask(black_box, images, labels, generator).attributions
        assert coarse is not None
        fine = RectifiedGradient().attribution(black_box, images, labels, generator)
        return fine * resize_maps(coarse.clamp_min(0), images.shape[2:])


def guided_backprop() -> RectifiedGradient:
    """Guided backpropagation; see `RectifiedGradient`.

    Example:
        >>> guided_backprop().rule
        'guided'

    References:
        Springenberg et al. 2015, "Striving for Simplicity", section 3.4, figure 1.
    """
    return RectifiedGradient(rule="guided")


def deconvolution() -> RectifiedGradient:
    """Deconvolution: what a deconvolutional network reconstructs from the logit; see
    `RectifiedGradient`.

    Example:
        >>> deconvolution().rule
        'deconvolution'

    References:
        Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 2.1.
    """
    return RectifiedGradient(rule="deconvolution")


@final
class _Rectify(torch.autograd.Function):
    """ReLU, or ReLU6 with a ceiling, with a modified backward rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ceiling: float, rule: ReluRule, in_place: bool) -> Tensor:
        ctx.ceiling, ctx.rule = ceiling, rule
        if in_place:
            ctx.mark_dirty(x)
        bounded = ceiling < float("inf")
        out = F.hardtanh(x, 0.0, ceiling, in_place) if bounded else F.relu(x, in_place)
        if rule == "guided":
            ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        # where the output is neither 0 nor at the ceiling, the input was between
        if ctx.rule == "guided" and ctx.ceiling < float("inf"):
            grad = torch.ops.aten.hardtanh_backward(grad, *ctx.saved_tensors, 0.0, ctx.ceiling)
        elif ctx.rule == "guided":
            grad = torch.ops.aten.threshold_backward(grad, *ctx.saved_tensors, 0.0)
        return grad.clamp_min(0), None, None, None


@final
class _RectifiedRelus(TorchFunctionMode):
    """While active, every ReLU that is called follows the rule; counts them."""

    def __init__(self, rule: ReluRule) -> None:
        super().__init__()
        self.rule, self.count = rule, 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        ceiling = _ceiling(func, args, given)
        x = args[0] if args else given.get("input")
        if ceiling is None or not (isinstance(x, Tensor) and x.requires_grad):
            return func(*args, **given)
        self.count += 1
        in_place = (
            func.__name__.endswith("_")
            or bool(given.get("inplace"))
            or (func in _INPLACE_LAST and args[-1] is True)
        )
        return _Rectify.apply(x, ceiling, self.rule, in_place)


def _ceiling(func: Any, args: Any, given: Mapping[str, Any]) -> float | None:
    """The upper bound of the function if it is a ReLU, else None."""
    if func in _RELUS:
        return float("inf")
    if func is F.relu6:
        return 6.0
    if func in (F.hardtanh, F.hardtanh_):
        low = args[1] if len(args) > 1 else given.get("min_val", -1.0)
        return float(args[2] if len(args) > 2 else given.get("max_val", 1.0)) if low == 0 else None
    return None


def _check_activations(logits: Tensor, count: int, model: str) -> None:
    """Raise InputError if the graph has activations that the rule did not reach."""
    seen, stack, others = set(), [logits.grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        stack.extend(next_node for next_node, _ in node.next_functions)
        name = node.name().rstrip("01").removesuffix("Backward")
        if name.removeprefix("Native") in _OTHER_ACTIVATIONS:
            others.add(name)
    if others or not count:
        what = f"also has {', '.join(sorted(others))}" if others else "calls no ReLU"
        raise InputError(
            f"guided backpropagation and deconvolution are rules for ReLUs, and {model} {what}. "
            "Use masker='gradient', 'integrated-gradients' or 'smoothgrad', which work with any "
            "activation."
        )
