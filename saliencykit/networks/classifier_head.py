"""ClassifierHead: the feature map that a classifier's head reads, and one vector per class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from saliencykit.core import rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.output import Output, both_answers, relative_to
from saliencykit.core.types import Images
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.head_linearization import linearize
from saliencykit.networks.image_response import placed
from saliencykit.networks.map_layout import feature_maps_in
from saliencykit.networks.module_calls import ModuleCall, one_call, record_calls
from saliencykit.networks.module_layers import get_layer, module_of, torchscript_hint
from saliencykit.networks.private_copy import in_float32
from saliencykit.networks.structure_cache import StructureCache
from saliencykit.networks.tolerance import close_to_rounding

_RECORDED_IMAGES = 3  # the outputs of all layers are held for them

_cache: StructureCache[tuple[FeatureMap, str] | None] = StructureCache()
"""A model's pooled head, by image size."""

_MapCalls = Sequence[tuple[FeatureMap, ModuleCall]]


@final
@dataclass(frozen=True)
class ClassifierHead:
    """Which feature map a classifier's evidence is read from, and with which vector per class.

    Attributes:
        feature_map: The coarsest feature map.
        weight: (K, C), the class weights: what each class looks for in the map.
        bias: (K,).
        layer: The name of the linear layer if `mean over positions of X . weight_c + bias_c` *is*
            the logit (or was, before a last ReLU): the class weights are then the head's own. None
            where they are an estimate, to be trained.
    """

    feature_map: FeatureMap
    weight: Tensor
    bias: Tensor
    layer: str | None

    @property
    def exact(self) -> bool:
        """Are these the class weights from the model's head?"""
        return self.layer is not None


def find_classifier_head(black_box: BlackBox, images: Images) -> ClassifierHead:
    """Find the class weights by recording a forward pass on a few images.

    Exact where the head is pooling and one linear layer, or a 1x1 convolution and pooling (most
    convolutional networks, Swin). With a class token the weights are the linear layer's, but the
    map holds the other tokens. Everywhere else the head is linearized: `weight_c` is the mean
    gradient of the logit with respect to the last map, summed over positions, as in Grad-CAM; where
    that would take too long (many classes, large layers) the weights are random.

    Args:
        black_box: With a torch module inside.
        images: (B, C, H, W), B >= 1, as the black box takes them; a linearized head depends on
            them.

    Raises:
        InputError: The black box has no module, or none of its layers has a spatial feature map.

    References:
        Zhou et al. 2016, "Learning Deep Features for Discriminative Localization"; Selvaraju et al.
        2017, Grad-CAM, equation 1.
    """
    module = module_of(black_box)
    black_box = in_float32(black_box, images)
    few = len(images) < _RECORDED_IMAGES
    several = torch.cat([images, images.flip(-1), images.flip(-2)]) if few else images
    head, calls, maps = _exact_head(black_box, several)
    if not maps:
        raise InputError(
            f"none of the {len(calls)} layers of {type(module).__name__} has a spatial feature "
            "map, so it has no trunk to share; use encoder='own' or encoder='timm:resnet50'."
            f"{torchscript_hint(module)}"
        )
    if head is not None:
        return head
    candidates = [feature_map for feature_map, _ in maps]
    return ClassifierHead(*linearize(black_box, images, candidates, calls), layer=None)


def pooled_classifier_head(black_box: BlackBox, images: Images) -> ClassifierHead | None:
    """The class weights where the head is pooling and a linear layer, or a 1x1 convolution and
    pooling; None where it is not, or where a target and not a class is explained.

    Only the image size matters: the head is searched once, on noise, and cached until
    the model's layers change; the weights are read again at each call.

    Args:
        black_box: With a torch module inside.
        images: (B, C, H, W), as the black box takes them; only shape, dtype and device count.

    Raises:
        InputError: The black box has no module.
    """
    if black_box.target is not None:
        return None
    known = _cache.of(black_box.source_module or module_of(black_box))
    size = tuple(images.shape[1:])
    # one model may be read in several ways
    kind = (black_box.output, black_box.against, getattr(black_box, "probabilities", False))
    key = (*kind, *size)
    if key not in known:
        blank, generator = images.new_zeros(1, *size), torch.Generator().manual_seed(0)
        noise = rng.uniform(blank, (_RECORDED_IMAGES, *size), generator=generator)[0]
        head, *_ = _exact_head(black_box, noise, repeated=True)
        known[key] = None
        if head is not None and head.layer is not None:
            known[key] = (head.feature_map, head.layer)
    if (found := known[key]) is None:
        return None
    feature_map, layer = found
    weight, bias = class_weights(module_of(black_box), layer, black_box.output)
    against = black_box.against
    relative = relative_to(weight.T, against).T, relative_to(bias[None], against)[0]
    return ClassifierHead(placed(black_box, feature_map, images), *relative, layer)


def class_weights(
    module: nn.Module, layer: str, output: Output = "softmax"
) -> tuple[Tensor, Tensor]:
    """Weight (K, C) and bias (K,) of a linear layer or 1x1 convolution: detached float32 copies.

    A single row is that of a sigmoid, and becomes two, see `both_answers`, unless it is a score.

    Args:
        module: The classifier's.
        layer: The layer's dotted name; "" is the module itself.
        output: What a column of the classifier's output means.

    Raises:
        InputError: There is no such layer, or it has no weights.
    """
    head = get_layer(module, layer)
    weight, bias = getattr(head, "weight", None), getattr(head, "bias", None)
    if not isinstance(weight, Tensor):
        raise InputError(
            f"{layer!r} of {type(module).__name__} has no weights; this masker was made for "
            "another model."
        )
    rows = weight.detach().flatten(1).float().clone()
    offsets = rows.new_zeros(len(rows))
    if isinstance(bias, Tensor):
        offsets = bias.detach().float().clone()
    if len(rows) > 1 or output == "score":
        return rows, offsets
    return both_answers(rows.T, output).T.contiguous(), both_answers(offsets[None], output)[0]


def _exact_head(
    black_box: BlackBox, images: Images, *, repeated: bool = False
) -> tuple[ClassifierHead | None, Sequence[ModuleCall], _MapCalls]:
    """The head if it is a linear layer or a convolution, else None; the recorded calls, and those
    of them whose output is a map.
    """
    output, against = black_box.output, black_box.against
    probe = one_call(black_box, images, _RECORDED_IMAGES)
    with torch.no_grad():
        logits, calls = record_calls(black_box, probe, repeated=repeated)
    maps = feature_maps_in(black_box, calls, probe)

    def matches(values: Tensor) -> bool:
        """Are these the logits, as the black box reads them?"""
        one = values.shape[1] == 1 and output != "score"
        columns = both_answers(values, output) if one else values
        known = against is None or against < columns.shape[1]
        return known and close_to_rounding(relative_to(columns, against), logits)

    head = _linear_head(output, matches, calls, maps, probe)
    head = head or _convolutional_head(output, matches, calls, maps)
    return head, calls, maps


def _linear_head(
    output: Output,
    matches: Callable[[Tensor], bool],
    calls: Sequence[ModuleCall],
    maps: _MapCalls,
    probe: Images,
) -> ClassifierHead | None:
    """A linear layer, or a convolution that is one, whose input is the mean of a map or a token."""
    for call in reversed(calls):
        module, features = call.module, call.input
        pointwise = isinstance(module, nn.Conv2d) and call.output.shape[2:] == (1, 1)
        if pointwise and module.groups == 1:
            features = None if features is None else features.flatten(1)
        elif not isinstance(module, nn.Linear):
            continue
        if features is None or features.ndim != 2:
            continue
        weight, bias = class_weights(module, "", output)
        if weight.shape[1] != features.shape[1]:
            continue
        if not matches(call.output.flatten(1)):
            continue
        for feature_map, source in reversed(maps):
            if feature_map.channels != weight.shape[1] or len(source.output) != len(features):
                continue
            values = feature_map.read(source.output, probe.shape[2:])
            if close_to_rounding(values.mean((2, 3)), features.to(values.dtype)):
                return ClassifierHead(feature_map, weight, bias, call.name)
            if feature_map.prefix and close_to_rounding(source.output[:, 0], features):
                return ClassifierHead(feature_map, weight, bias, None)
        return None
    return None


def _convolutional_head(
    output: Output,
    matches: Callable[[Tensor], bool],
    calls: Sequence[ModuleCall],
    maps: _MapCalls,
) -> ClassifierHead | None:
    """A 1x1 convolution whose output, with or without a ReLU, is pooled into the logits."""
    for call in reversed(calls):
        module, features, values = call.module, call.input, call.output
        if not isinstance(module, nn.Conv2d) or module.kernel_size != (1, 1) or features is None:
            continue
        if min(values.shape[2:]) < 2:
            continue
        if not any(matches(each.mean((2, 3))) for each in (values, values.relu())):
            continue
        for feature_map, source in reversed(maps):
            if feature_map.layout == "maps" and close_to_rounding(source.output, features):
                return ClassifierHead(feature_map, *class_weights(module, "", output), call.name)
    return None
