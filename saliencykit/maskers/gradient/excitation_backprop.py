"""Excitation backprop: which neurons of a middle layer win the competition for a class; and its
contrastive form.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import ClassVar, final
from weakref import WeakKeyDictionary

import torch
from torch import Generator, nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker, MaskerOutput
from saliencykit.core.query_batches import micro_batch
from saliencykit.core.types import Images, Labels, Logits
from saliencykit.maskers.gradient.winning_probability import marginal_winning_probability
from saliencykit.maskers.normalize import mask_from_attributions
from saliencykit.networks.feature_map import FeatureMap, as_feature_map
from saliencykit.networks.module_calls import record_calls
from saliencykit.networks.module_layers import torchscript_hint

_MASS = (
    0.5  # of the probability; 1 but for rounding where the map is all that the answer is made of
)
# of the picture's side, 28 of 224; a small picture's map still has about 14 cells a side
_SHARE, _FEWEST = (
    1 / 8,
    14,
)
_TOGETHER = 8  # pictures; the graph from the layer on is held for all of them

_known: "WeakKeyDictionary[nn.Module, dict[tuple[object, ...], FeatureMap]]" = WeakKeyDictionary()
"""The layers that were found, as long as the model lives."""


@final
@dataclass(frozen=True, kw_only=True)
class ExcitationBackprop(Masker):
    """The probability that a random walk from the class down the network, along exciting
    connections only, passes a position.

    From each unit the walk goes to one that feeds it, with probability in proportion to `activation
    * positive weight`; see `winning` for the rule of each operation. The map is the sum over
    channels of these probabilities at a middle layer, and sums to 1. One forward and half a
    backward pass; sharper than Grad-CAM, since the layer is earlier, but as it sees no inhibition,
    the maps of two classes look much alike: that is what the contrast is for. It then takes the
    difference to the dual unit, whose last weights are negated, and finds what speaks for this
    class rather than against it.

    The mask is the positive part of the map divided by its maximum.

    Made for networks with rectified activations. A unit that is not positive (behind SiLU or GELU,
    or a linear bottleneck) counts as not active; norms with statistics of their own (layer, group,
    instance) hold them fixed, which leaves one exciting connection per unit. Both are our
    extension. There is no rule for attention: transformers are refused with the name of the
    operation.

    Args:
        contrastive: Subtract the dual unit's map; scores are then signed and sum to 0.
        layer: The dotted name of the layer at which the map is read, as in `model.named_modules()`;
            its output is a map over the picture. None: the last layer with about 1/8 of the
            picture's side (28 of 224, 14 of small pictures).

    Raises:
        InputError: The box shows no torch module, the layer is unknown or no map, or the model has
            an operation without a rule.

    Example:
        >>> from saliencykit.black_boxes.torch_module import TorchBlackBox
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 15 * 15, 4)
        ... )
        >>> images, labels = torch.rand(2, 3, 32, 32), torch.tensor([0, 3])
        >>> black_box = TorchBlackBox(net, size=32)
        >>> found = ExcitationBackprop(layer="1").mask(black_box, images, labels, Generator())
        >>> found.attributions.shape, bool((found.attributions.sum((1, 2, 3)) - 1).abs().max() < 1e-5)
        (torch.Size([2, 1, 15, 15]), True)

    References:
        Zhang, Lin, Brandt, Shen & Sclaroff 2016, "Top-down Neural Attention by Excitation
        Backprop", section 3, equations 1 to 3, and 3.3 for the contrast.
    """

    contrastive: bool = False
    layer: str | None = None

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        if not isinstance(self.contrastive, bool):
            raise InputError(
                f"ExcitationBackprop(contrastive={self.contrastive!r}) takes True or False."
            )
        if self.layer is not None and not (isinstance(self.layer, str) and self.layer):
            raise InputError(
                f"ExcitationBackprop(layer={self.layer!r}) takes a layer's dotted name, such as "
                "'layer2', or None."
            )

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """Probabilities per position, or their difference, and their positive part as the mask."""
        if black_box.module is None:
            raise InputError(
                "ExcitationBackprop goes through the layers of a torch module, and "
                f"{name_of(black_box)} shows none. Use masker='rise' or 'occlusion', which only "
                "ask, or 'iterative', which needs gradients alone."
            )
        feature_map, expected = _layer(black_box, images[:1], self.layer)
        step = min(_TOGETHER, micro_batch(black_box))
        maps = []
        for some, asked in zip(torch.split(images, step), torch.split(labels, step), strict=True):
            found = marginal_winning_probability(
                black_box, some, asked, feature_map, dual=self.contrastive, expected=expected
            )
            arrived = feature_map.read(found.own, some.shape[2:]).sum((1, 2, 3)).min()
            if (
                arrived < _MASS
            ):  # a class token behind the last attention, an output that is made of another one
                raise InputError(
                    f"of the label's probability of 1 only {float(arrived):.2g} arrives at the "
                    f"map of {feature_map.name!r} of {name_of(black_box.module)}; name an earlier "
                    "layer=..., or use masker='grad-cam', 'rise' or 'iterative'."
                )
            difference = found.own if found.dual is None else found.own - found.dual
            maps.append(feature_map.read(difference, some.shape[2:]).sum(1, keepdim=True))
            expected = None
        scores = torch.cat(maps).to(images.dtype)
        return MaskerOutput(mask_from_attributions(scores), scores)


def contrastive_excitation_backprop(*, layer: str | None = None) -> ExcitationBackprop:
    """Excitation backprop of the class less that of its dual unit: what tells this class from the
    others.

    Args:
        layer: See `ExcitationBackprop`.

    Example:
        >>> contrastive_excitation_backprop().contrastive
        True

    References:
        Zhang et al. 2016, section 3.3.
    """
    return ExcitationBackprop(contrastive=True, layer=layer)


def _layer(
    black_box: BlackBox, image: Images, name: str | None
) -> tuple[FeatureMap, Logits | None]:
    """The layer, looked for once for a model and a size of picture; and, that once, the box's plain
    answer.
    """
    assert black_box.module is not None
    known = _known.setdefault(black_box.source_module or black_box.module, {})
    key = (name, *image.shape[1:])
    if key in known:
        return known[key], None
    with torch.no_grad():
        logits, calls = record_calls(black_box, image)
    feature_maps = [
        feature_map for call in calls if (feature_map := as_feature_map(call, image)) is not None
    ]
    if not feature_maps:
        raise InputError(
            f"no layer of {name_of(black_box.module)} gives a map over the picture; use masker='rise', "
            f"'occlusion' or 'iterative'.{torchscript_hint(black_box.module)}"
        )
    feature_map = known[key] = _chosen(feature_maps, image, name, name_of(black_box.module))
    return feature_map, logits


def _chosen(
    feature_maps: Sequence[FeatureMap], image: Images, name: str | None, who: str
) -> FeatureMap:
    """The one of this name; without a name the last of the outermost modules whose side is nearest
    to that wanted.
    """
    if name is not None:
        named = [feature_map for feature_map in feature_maps if feature_map.name == name]
        if not named:
            raise InputError(
                f"{who} has no layer {name!r} that runs once and whose output is a map over the "
                "picture; those that are: "
                f"{', '.join(feature_map.name for feature_map in feature_maps[:12])}{', ...' if len(feature_maps) > 12 else ''}."
            )
        return named[0]
    side = max(_SHARE * min(image.shape[2:]), _FEWEST)
    nearest = min(
        (feature_map.side for feature_map in feature_maps),
        key=lambda found: abs(log(min(found) / side)),
    )
    near = [feature_map for feature_map in feature_maps if feature_map.side == nearest]
    outermost = min(feature_map.name.count(".") for feature_map in near)
    return [feature_map for feature_map in near if feature_map.name.count(".") == outermost][-1]
