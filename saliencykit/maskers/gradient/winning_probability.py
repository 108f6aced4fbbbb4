"""Marginal winning probabilities: how likely each unit of a layer is the cause of a logit."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Labels, Logits
from saliencykit.core.visible_text import first_line
from saliencykit.maskers.gradient.excitation_rules import ExcitationRules
from saliencykit.maskers.gradient.winning_probability_rules import Linear, RuleFunction
from saliencykit.networks.direct_execution import without_backward_hooks
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.layer_activations import logits_and_activations
from saliencykit.networks.module_layers import module_of
from saliencykit.networks.tolerance import close_to_rounding

# nodes whose own backward step is right: they only move values, or pass all to the maximum
_NAMES = (
    "View UnsafeView ReshapeAlias Permute Transpose T Cat Stack Split SplitWithSizes Slice Select "
    "Expand Squeeze Unsqueeze Clone Alias ConstantPadNd MaxPool2DWithIndices MaxPool3DWithIndices "
    "AdaptiveMaxPool2D Max Amax Maximum Unbind Index IndexSelect Gather Roll Flip PixelShuffle "
    "PixelUnshuffle NativeChannelShuffle ChannelShuffle ReflectionPad2D ReplicationPad2D ToCopy "
    "Repeat AccumulateGrad"
)
_OWN_BACKWARD = frozenset(_NAMES.split())


@final
@dataclass(frozen=True)
class WinningProbability:
    """Marginal winning probabilities at one layer.

    Attributes:
        own: Of the label's logit, in the shape of the layer's output, >= 0; they sum to 1 per
            image, less what bypasses the layer.
        dual: Of the same logit with the weights of its last linear layer negated, or None.
    """

    own: Tensor
    dual: Tensor | None


def marginal_winning_probability(
    black_box: BlackBox,
    images: Images,
    labels: Labels,
    feature_map: FeatureMap,
    *,
    dual: bool = False,
    expected: Logits | None = None,
) -> WinningProbability:
    """Propagate the probability 1 from each image's logit down to a layer.

    A unit that wins with probability P_i passes it to its inputs in proportion to how much they
    excite it (+ is the positive part),

        P_j = sum over i of  P_i * x_j+ * w_ij+ / sum over k of x_k+ * w_ik+

    through convolutions, linear layers, average pooling, means, sums and additions. A unit that
    nothing excites (only its bias made it positive) passes its probability evenly to all inputs
    that could have: each layer's sum stays 1. A maximum passes everything to the winner.
    Activations, dropout and norms with fixed statistics have one input per unit and pass everything
    to it; a batch norm right after a convolution is folded into its weights. In a product of a map
    and something smaller (squeeze-and-excitation), the smaller one is a weight; in a product of two
    maps of one size, each gets half.

    Nothing is traced or rewritten: the black box's own Python code runs while these torch functions
    are replaced by ones whose backward step is the rule. The recorded graph is then checked for
    anything else.

    Args:
        black_box: With a torch module inside.
        images: (B, C, H, W), no more than one call of the black box takes.
        labels: (B,).
        feature_map: The layer.
        dual: Also compute the probabilities of the dual unit, for the contrast.
        expected: The black box's logits of the first image, (1, K), which the run under these rules
            must reproduce. None: not checked.

    Raises:
        InputError: An operation between the layer and the logits has no rule, or there is no path.

    References:
        Zhang et al. 2016, "Top-down Neural Attention by Excitation Backprop", section 3.1,
        equations 1 to 3; 3.3 for the dual.
    """
    who = name_of(module_of(black_box))
    with ExcitationRules(), without_backward_hooks():
        logits, leaves = logits_and_activations(black_box, images, feature_map)
    if len(leaves) != 1:
        raise InputError(
            f"{who} ran {len(images)} images in {len(leaves)} batches; pass fewer images."
        )
    last = _last_linear(logits, who)
    if expected is not None and not close_to_rounding(logits[:1], expected):
        raise _no_rule("an operation that changes its input in place", who)
    if dual and last is None:
        raise InputError(
            f"there is no linear layer between {feature_map.name!r} of {who} and the logits, so "
            "the logit has no dual unit; use masker='excitation-backprop'."
        )
    selected = logits.gather(1, labels[:, None]).sum()
    try:
        own = _propagate(selected, leaves[0], retain_graph=dual)
        if not dual or last is None:
            return WinningProbability(own, None)
        last.sign = -1
        return WinningProbability(own, _propagate(selected, leaves[0]))
    except RuntimeError as error:  # autograd: a tensor that a rule needs was changed in place
        raise _no_rule(f"an in-place operation ({first_line(error)})", who) from error


def _propagate(selected: Tensor, layer: Tensor, retain_graph: bool = False) -> Tensor:
    with torch.enable_grad():
        (mass,) = torch.autograd.grad(
            selected, layer, retain_graph=retain_graph, allow_unused=True, materialize_grads=True
        )
    return mass


def _last_linear(logits: Logits, who: str) -> Linear | None:
    """The rule of the last linear layer; an error if the graph has an operation without a rule."""
    last: Linear | None = None
    seen, level = set(), [logits.grad_fn]
    while level:
        following = []
        for node in level:
            kind = type(node).__name__
            if kind.startswith(RuleFunction.__name__):
                rule = node.rule  # type: ignore[union-attr]
                if last is None and isinstance(rule, Linear) and rule.weight is not None:
                    last = rule
            elif (name := kind.rstrip("0123456789").removesuffix("Backward")) not in _OWN_BACKWARD:
                raise _no_rule(f"the operation {name!r}", who)
            for child, _ in node.next_functions:  # type: ignore[union-attr]
                if child is not None and child not in seen:
                    seen.add(child)
                    following.append(child)
        level = following
    return last


def _no_rule(what: str, who: str) -> InputError:
    return InputError(
        f"excitation backprop has no rule for {what} in {who}: it propagates probability through "
        "convolutions, linear layers, pooling, additions and activations, not through attention. "
        "Use masker='grad-cam', 'rise', 'occlusion' or 'iterative'."
    )
