"""Excitation backprop: which units of an intermediate layer win the competition for a class."""

from dataclasses import dataclass
from math import log
from typing import Annotated, ClassVar, final

import torch
from torch import Generator

from saliencykit.alternatives.blur import gaussian_blur
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.map_placement import place_maps
from saliencykit.core.masker import Masker
from saliencykit.core.masker_output import MaskerOutput
from saliencykit.core.query_batches import in_batches, micro_batch
from saliencykit.core.types import Images, Labels, Logits
from saliencykit.maskers.gradient.winning_probability import marginal_winning_probability
from saliencykit.maskers.normalize import mask_from_attributions
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.feature_pyramid import last_outermost
from saliencykit.networks.image_response import placed
from saliencykit.networks.map_layout import feature_maps_in
from saliencykit.networks.module_calls import record_calls
from saliencykit.networks.module_layers import WITHOUT_LAYERS, module_of, torchscript_hint
from saliencykit.networks.private_copy import with_private_module
from saliencykit.networks.structure_cache import StructureCache

_MIN_MASS = 0.5  # of the probability; 1 but for rounding where the logits depend on the map alone
# the layer's side: 1/8 of the image's, 28 of 224, and about 14 for small images
_SIDE, _MIN_SIDE = 1 / 8, 14
_BATCH = 8  # images; the graph from the layer on is in memory for all of them

_cache: StructureCache[FeatureMap] = StructureCache()
"""The layer of a model and an image size."""


@final
@dataclass(frozen=True, kw_only=True)
class ExcitationBackprop(Masker):
    """The probability that a random walk from the class down the network, along excitatory
    connections only, passes a position.

    From each unit the walk goes to one of its inputs, with probability in proportion to `activation
    * positive weight`; see `marginal_winning_probability` for the rule of each operation. The map
    is the sum of these probabilities over the channels of an intermediate layer, and sums to 1. The
    mask is the positive part of the map divided by its maximum.

    One forward pass and half a backward pass. Sharper than Grad-CAM, since the layer is earlier.
    Maps of two classes look much alike, as inhibition does not count; the contrastive form
    subtracts the map of the dual unit, whose last weights are negated, and shows what speaks for
    this class rather than against it.

    Made for networks with ReLUs. Units that are not positive (after SiLU or GELU, or a linear
    bottleneck) count as inactive; norms with statistics of their own (layer, group, instance) hold
    them fixed, which leaves one excitatory connection per unit. Both are our extension. Attention
    has no rule: transformers are refused with the name of the operation.

    Args:
        contrastive: Subtract the map of the dual unit; attributions are then signed and sum to 0.
        layer: The dotted name of the layer whose map is used, as in `model.named_modules()`; it
            must have a spatial feature map. None: the last layer with about 1/8 of the image's side
            (28 of 224; 14 for small images).
        blur: Standard deviation of a Gaussian over the map at the size of the image, in pixels, >=
            0; 0: none. The map is speckled, and one blurred by 8 pixels of 224 shows the extent of
            objects.

    Raises:
        InputError: The black box exposes no torch module, the layer is unknown or has no spatial
            feature map, or the model has an operation without a rule.

    Example:
        >>> from saliencykit.black_boxes import TorchBlackBox
        >>> from saliencykit.testing import small_network
        >>> black_box, images = TorchBlackBox(small_network(), size=16), torch.rand(2, 3, 16, 16)
        >>> masker = ExcitationBackprop(layer="2")
        >>> output = masker.mask(black_box, images, torch.tensor([0, 3]), Generator())
        >>> output.attributions.shape
        torch.Size([2, 1, 16, 16])
        >>> output.attributions.sum((1, 2, 3)).allclose(torch.ones(2))
        True

    References:
        Zhang, Lin, Brandt, Shen & Sclaroff 2016, "Top-down Neural Attention by Excitation
        Backprop", section 3, equations 1 to 3, and 3.3 for the contrast.
    """

    contrastive: bool = False
    layer: str | None = None
    blur: Annotated[float, "[0, inf)"] = 0.0

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        if self.layer is not None and not (isinstance(self.layer, str) and self.layer):
            raise InputError(
                f"ExcitationBackprop(layer={self.layer!r}): expected the dotted name of a layer, "
                "such as 'layer2', or None."
            )

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """Probabilities per position, or their difference, and the positive part as the mask."""
        module_of(black_box, WITHOUT_LAYERS)
        black_box = with_private_module(black_box)
        feature_map, expected = _find_layer(black_box, images[:1], self.layer)
        size, step = images.shape[2:], min(_BATCH, micro_batch(black_box))
        maps = []
        for some, own in in_batches(step, images, labels):
            given = (black_box, some, own, feature_map)
            mass = marginal_winning_probability(*given, dual=self.contrastive, expected=expected)
            arrived = float(feature_map.read(mass.own, size).sum((1, 2, 3)).min())
            # less: a class token after the last attention, or logits of another branch
            if arrived < _MIN_MASS:
                raise InputError(
                    f"excitation backprop is blocked before {feature_map.name!r} of "
                    f"{name_of(black_box.module)}: only {arrived:.2g} of the probability of 1 "
                    "arrives there. Name an earlier layer=..., or use masker='grad-cam', 'rise' or "
                    "'iterative'."
                )
            difference = mass.own if mass.dual is None else mass.own - mass.dual
            maps.append(feature_map.read(difference, size).sum(1, keepdim=True))
            expected = None
        attributions = torch.cat(maps).to(images.dtype)
        offset = placed(black_box, feature_map, images).offset
        if self.blur:
            large, offset = place_maps(attributions, size, offset), (0.0, 0.0)
            attributions = gaussian_blur(large, self.blur)
        return MaskerOutput(mask_from_attributions(attributions), attributions, offset=offset)


def contrastive_excitation_backprop(
    *, layer: str | None = None, blur: float = 0.0
) -> ExcitationBackprop:
    """Excitation backprop of the class minus that of its dual unit: what tells this class from the
    others.

    Args:
        layer: See `ExcitationBackprop`.
        blur: See `ExcitationBackprop`.

    Example:
        >>> contrastive_excitation_backprop().contrastive
        True

    References:
        Zhang et al. 2016, section 3.3.
    """
    return ExcitationBackprop(contrastive=True, layer=layer, blur=blur)


def _find_layer(
    black_box: BlackBox, image: Images, name: str | None
) -> tuple[FeatureMap, Logits | None]:
    """The layer, searched once per model and image size, and in that case the logits."""
    module = module_of(black_box)
    known = _cache.of(black_box.source_module or module)
    key, who = (name, *image.shape[1:]), name_of(module)
    if key in known:
        return known[key], None
    with torch.no_grad():
        logits, calls = record_calls(black_box, image)
    feature_maps = [feature_map for feature_map, _ in feature_maps_in(black_box, calls, image)]
    if not feature_maps:
        raise InputError(
            f"no layer of {who} has a spatial feature map; use masker='rise', 'occlusion' or "
            f"'iterative'.{torchscript_hint(module)}"
        )
    if name is None:
        # of the modules whose side is nearest to the one wanted
        side = max(_SIDE * min(image.shape[2:]), _MIN_SIDE)
        nearest = min((f.side for f in feature_maps), key=lambda s: abs(log(min(s) / side)))
        matches = [last_outermost([f for f in feature_maps if f.side == nearest])]
    else:
        matches = [f for f in feature_maps if f.name == name]
    if not matches:
        names = [f.name for f in feature_maps[:12]] + ["..."] * (len(feature_maps) > 12)
        raise InputError(
            f"{who} has no layer {name!r} that is called once and has a spatial feature map; "
            f"those that do: {', '.join(names)}."
        )
    known[key] = matches[-1]
    return known[key], logits
