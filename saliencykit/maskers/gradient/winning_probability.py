"""Winning: how likely each neuron of a layer is the cause of a logit, found by handing probability
down through a network.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.core.types import Images, Labels, Logits
from saliencykit.maskers.gradient.winning_probability_rules import (
    ExcitationRules,
    Linear,
    RuleFunction,
)
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.layer_activations import logits_and_activations
from saliencykit.networks.module_layers import module_of
from saliencykit.networks.tolerance import close_to_rounding

# what autograd hands down as it should by itself: everything that only moves numbers, and maxima,
# whose winner takes all
_MOVES = {
    "View", "UnsafeView", "ReshapeAlias", "Permute", "Transpose", "T", "Cat", "Stack", "Split", "SplitWithSizes", "Slice", "Select",
    "Expand", "Squeeze", "Unsqueeze", "Clone", "Alias", "ConstantPadNd", "MaxPool2DWithIndices", "MaxPool3DWithIndices",
    "AdaptiveMaxPool2D", "Max", "Amax", "Maximum", "Unbind", "Index", "IndexSelect", "Gather", "Roll", "Flip", "PixelShuffle",
    "PixelUnshuffle", "NativeChannelShuffle", "ChannelShuffle", "ReflectionPad2D", "ReplicationPad2D", "ToCopy", "Repeat",
}  # fmt: skip


@final
@dataclass(frozen=True)
class WinningProbability:
    """Marginal winning probabilities at one layer.

    Attributes:
        own: Of the label's logit, in the shape of the layer's output, >= 0; each picture's sum is
            1, less what went past the layer.
        dual: Of the same logit with the weights of its last linear layer negated, or None where
            that was not asked for.
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
    """Hand the probability 1 from each picture's logit down to a layer.

    A unit that wins with probability P_i passes it to those that feed it in proportion to how much
    they excite it,

        P_j = sum over i of  P_i * x_j+ * w_ij+ / sum over k of x_k+ * w_ik+          (+ is the positive part),

    through convolutions, linear layers, average pooling, means, sums and additions. A unit that
    nothing excites (its bias alone made it positive) passes its probability in equal parts to all
    that could have: the sum over each layer stays 1. In a maximum the winner takes all.
    Activations, dropout and norms with given statistics have one child for each unit and hand on as
    it is; a batch norm right behind a convolution is folded into its weights. Of a product of a map
    and something smaller (squeeze-and-excitation) the smaller one is a weight; of two computed maps
    of one size each gets half.

    Nothing is traced or rewritten: the box's own Python code runs, with these functions of torch
    replaced meanwhile by ones whose backward step is the rule; afterwards the graph that was
    recorded is checked for anything else.

    Args:
        black_box: With a torch module inside.
        images: (B, C, H, W), no more than one call of the box takes.
        labels: (B,).
        feature_map: The layer.
        dual: Also find the probabilities of the dual unit, for the contrast.
        expected: The box's plain answer to the first of the images, (1, K): the run under these
            rules must give it too.

    Raises:
        InputError: There is no rule for an operation between the layer and the logits, or no path.

    References:
        Zhang et al. 2016, "Top-down Neural Attention by Excitation Backprop", section 3.1,
        equations 1 to 3; 3.3 for the dual.
    """
    who = name_of(module_of(black_box))
    with ExcitationRules():
        logits, leaves = logits_and_activations(black_box, images, feature_map)
    if len(leaves) != 1:
        raise InputError(
            f"{who} answered about {len(images)} images in {len(leaves)} parts; ask for fewer at "
            "once."
        )
    last = _checked(logits, who)
    if expected is not None and not close_to_rounding(
        logits[:1], expected
    ):  # the run under these rules must answer as a plain one
        raise InputError(_no_rule("an operation that changes its input in place", who))
    chosen = logits.gather(1, labels[:, None]).sum()
    try:
        own = _handed_down(chosen, leaves[0], retain=dual)
        if not dual:
            return WinningProbability(own, None)
        if last is None:
            raise InputError(
                f"no linear layer lies between {feature_map.name!r} of {who} and the logits, so the logit "
                "has no dual unit; use masker='excitation-backprop'."
            )
        last.sign = -1
        return WinningProbability(own, _handed_down(chosen, leaves[0]))
    except SaliencyKitError:
        raise
    except RuntimeError as error:  # autograd: a tensor that a rule needs was changed in place
        raise InputError(
            _no_rule(f"an in-place operation ({str(error).splitlines()[0]})", who)
        ) from error


def _handed_down(chosen: Tensor, layer: Tensor, retain: bool = False) -> Tensor:
    with torch.enable_grad():
        found = torch.autograd.grad(chosen, layer, retain_graph=retain, allow_unused=True)[0]
    return torch.zeros_like(layer) if found is None else found


def _checked(logits: Logits, who: str) -> Linear | None:
    """The rule of the last linear layer; an error if the graph holds an operation without a rule."""
    last: Linear | None = None
    seen, row = set(), [logits.grad_fn]
    while row:
        following = []
        for node in row:
            kind = type(node).__name__
            if kind.startswith(RuleFunction.__name__):
                rule = node.rule  # type: ignore[union-attr]
                last = (
                    rule
                    if last is None and isinstance(rule, Linear) and rule.weight is not None
                    else last
                )
            elif (
                name := kind.rstrip("0123456789").removesuffix("Backward")
            ) not in _MOVES and name != "AccumulateGrad":
                raise InputError(_no_rule(f"the operation {name!r}", who))
            for child, _ in node.next_functions:  # type: ignore[union-attr]
                if child is not None and child not in seen:
                    seen.add(child)
                    following.append(child)
        row = following
    return last


def _no_rule(what: str, who: str) -> str:
    return (
        f"excitation backprop has no rule for {what} of {who}: it hands probability down through "
        "convolutions, linear layers, pooling, additions and activations, not through attention. "
        "Use masker='grad-cam', 'rise', 'occlusion' or 'iterative'."
    )
