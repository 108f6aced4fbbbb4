"""RectifierRules: while active, every rectifier that a model computes has a modified gradient."""

from typing import Any, Literal, TypeAlias, final

import torch
import torch.nn.functional as F
from torch import Tensor

from saliencykit.maskers.gradient.rectifiers import Rectifiers

ReluRule: TypeAlias = Literal["guided", "deconvolution"]

_OTHER_ACTIVATIONS = {
    "Gelu", "Silu", "Hardswish", "Elu", "LeakyRelu", "Mish", "Softplus", "Relu", "Hardtanh",
    "Prelu", "PreluKernel", "Rrelu", "RreluWithNoise", "Celu", "Selu", "Abs", "Softshrink",
    "Hardshrink", "LogSigmoid", "Logaddexp", "Glu",
}  # fmt: skip


@final
class RectifierRules(Rectifiers):
    """Follows the rule at every rectifier.

    Attributes:
        count: The rectifiers that followed the rule.
    """

    def __init__(self, rule: ReluRule) -> None:
        super().__init__()
        self.rule, self.count = rule, 0

    def rectify(self, x: Tensor, ceiling: float, in_place: bool) -> Tensor:
        """A ReLU whose gradient follows the rule."""
        self.count += 1
        return Rectify.apply(x, ceiling, self.rule, in_place)  # type: ignore[no-any-return]


@final
class Rectify(torch.autograd.Function):
    """ReLU, or ReLU6 with a ceiling, with a modified backward rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ceiling: float, rule: ReluRule, in_place: bool) -> Tensor:
        """The rectifier's own output."""
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
        """The positive part of the gradient; for `guided` only where the input was positive."""
        # where the output is neither 0 nor at the ceiling, the input was between
        if ctx.rule == "guided" and ctx.ceiling < float("inf"):
            grad = torch.ops.aten.hardtanh_backward(grad, *ctx.saved_tensors, 0.0, ctx.ceiling)
        elif ctx.rule == "guided":
            grad = torch.ops.aten.threshold_backward(grad, *ctx.saved_tensors, 0.0)
        return grad.clamp_min(0), None, None, None


def activations_without_rule(
    logits: Tensor, rule: type[torch.autograd.Function] = Rectify
) -> set[str]:
    """The activations in the graph that a rule did not reach, by the names of their nodes.

    Args:
        logits: With the graph of a model that ran under `Rectifiers`.
        rule: The function that stands for an activation in the graph, or right behind one.
    """
    seen, stack, others = set(), [logits.grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = node.name().rstrip("0123456789").removesuffix("Backward")
        own = isinstance(node, torch.autograd.function.BackwardCFunction)
        following = [next_node for next_node, _ in node.next_functions]
        if name == rule.__name__ and rule is not Rectify:  # right behind an activation
            following = [each for node in following if node for each, _ in node.next_functions]
        elif own and name not in (rule.__name__, "BackwardHookFunction"):
            others.add(f"an autograd function of its own ({name})")
        elif name.removeprefix("Native") in _OTHER_ACTIVATIONS:
            others.add(name)
        stack.extend(following)
    return others
