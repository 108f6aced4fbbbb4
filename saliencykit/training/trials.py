"""Two ways to make a trial in training: mixing cached features, and composing pixels."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.core.alternative import Alternative, compose
from saliencykit.core.black_box import BlackBox
from saliencykit.core.map_placement import resize_maps
from saliencykit.core.objective import Fakes, Trial, kept_and_dropped, query_edits, run_trial
from saliencykit.core.output import Meaning, Output, RelativeScores
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.networks.partial_network import PartialNetwork


def feature_mixing_trial(
    partial_network: PartialNetwork,
    mixing: Tensor,
    images: Images,
    labels: Labels,
    real: Tensor,
    mask: Mask,
    *,
    fakes: Fakes,
    generator: Generator,
    output: Output = "softmax",
) -> Trial:
    """Mix the features of image and fills under the mask, and run the partial network on them.

    Args:
        partial_network: The classifier after the split layer.
        mixing: (B, 1 + fills, C, h, w): the image's features, then those of independent fills.
        images: (B, C, H, W), for terms that read them.
        labels: (B,) the classes to explain.
        real: (B,) bool; False for fake classes.
        mask: (B, 1, h', w') at the network's resolution.
        fakes: See `run_trial`.
        generator: Draws which fill the kept image gets.
        output: What a column of the logits means.
    """
    features, fills = mixing[:, 0], mixing[:, 1:]
    count, device = fills.shape[1], mixing.device
    first = torch.randint(count, (len(fills),), generator=generator, device="cpu").to(device)
    rows = torch.arange(len(fills), device=device)
    kept_fill, dropped_fill = fills[rows, first], fills[rows, (first + 1) % count]
    coarse = F.interpolate(mask, size=tuple(mixing.shape[3:]), mode="area")
    kept, dropped = kept_and_dropped(coarse, real, fakes)
    mixed = [compose(features, kept, kept_fill), compose(features, dropped, dropped_fill)]
    meaning: Meaning = output
    if output == "score":
        with torch.no_grad():
            ends = partial_network(torch.cat([features, kept_fill]), images.shape[1:]).chunk(2)
        meaning = RelativeScores(*ends)
    both = query_edits(
        lambda edits: partial_network(edits, images.shape[1:]),
        torch.stack(mixed),
        real,
        fakes,
        partial_network.black_box.num_classes,
    )
    return Trial(images, labels, real, mask, both[0], both[1], meaning)


def pixel_trial(
    black_box: BlackBox,
    images: Images,
    labels: Labels,
    real: Tensor,
    mask: Mask,
    *,
    alternative: Alternative,
    fakes: Fakes,
    generator: Generator,
) -> Trial:
    """`run_trial` with the mask enlarged; the terms of the objective get the mask at the network's
    resolution.
    """
    given = (black_box, images, labels, resize_maps(mask, images.shape[2:]))
    trial = run_trial(*given, alternative=alternative, generator=generator, real=real, fakes=fakes)
    return replace(trial, mask=mask)
