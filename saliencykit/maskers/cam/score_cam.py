"""Score-CAM: a classifier's last maps, each weighted with the answer to the picture seen through
it.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Generator, Tensor

from saliencykit.alternatives.constant import Constant
from saliencykit.core import rng
from saliencykit.core.alternative import Alternative, compose
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import whole_numbers
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker, MaskerOutput, resize_maps
from saliencykit.core.query_batches import micro_batch, shared_fill
from saliencykit.core.types import Images, Labels
from saliencykit.maskers.normalize import mask_from_attributions
from saliencykit.networks.feature_maps import read_feature_maps
from saliencykit.networks.target_layer import target_layer

_ZERO = Constant(color="zero")
_ROUNDING = 1e-6  # of the largest map: what is below says nothing


@final
@dataclass(frozen=True, kw_only=True)
class ScoreCam(Masker):
    """The maps of a late layer used as masks, and summed with the softmax of the label's logits
    under them as weights.

    `scores = sum over channels k of alpha_k * A_k`, `alpha = softmax over k of z_c(X * H_k + fill *
    (1 - H_k))`, where `A_k` is the k-th map and `H_k` the same enlarged to the picture and
    stretched to [0, 1]. The logit of the fill alone, which the paper subtracts from each, is the
    same for all channels and drops out of the softmax.

    Needs no gradients, so neither saturation nor odd slopes mislead it, and is as coarse as
    Grad-CAM. The softmax makes it sharp in another sense: a few channels carry the sum. Costs an
    evaluation per channel, 1280 for MobileNetV2 and 2048 for ResNet-50.

    The mask is the positive part of the scores divided by its maximum, as published.

    Args:
        layer: The dotted name of another layer than the one that `target_layer` finds; its output
            must be a map over the picture.
        channels: At most so many, >= 1: those whose map varies most over the positions, per
            picture, and the softmax runs over these. None: all of them, as published.
        alternative: What stands where a map is low. By default what the model's normalisation maps
            to 0, as in the authors' product of map and normalised picture; one that draws (noise, a
            choice) is drawn once per picture.

    Raises:
        InputError: A number is out of range, the box shows no torch module, or no layer of it
            qualifies.

    Example:
        >>> from saliencykit.black_boxes.torch_module import TorchBlackBox
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(4))
        >>> black_box, images = TorchBlackBox(net, size=16), torch.rand(2, 3, 16, 16)
        >>> ScoreCam()(black_box, images, torch.tensor([0, 3]), generator=Generator()).shape
        torch.Size([2, 1, 16, 16])

    References:
        Wang et al. 2020, "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural
        Networks", section 3, equations 8 to 10, and algorithm 1.
    """

    layer: str | None = None
    channels: int | None = None
    alternative: Alternative = _ZERO

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.channels is not None:
            whole_numbers(self, "channels")
        if not isinstance(self.alternative, Alternative):
            raise InputError(
                f"ScoreCam(alternative={self.alternative!r}) takes an Alternative, such as "
                "Constant(color='zero')."
            )

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """The weighted sum, as coarse as the layer, and its positive part as the mask."""
        feature_map = target_layer(black_box, images, self.layer)
        seed = rng.seed(generator)
        black_box, alternative = (
            black_box.optimized_for(images),
            self.alternative.for_black_box(black_box),
        )
        _, (all_maps,) = read_feature_maps(black_box, images, [feature_map])
        scores = []
        for image, label, maps in zip(
            images[:, None], labels, all_maps.to(images.dtype), strict=True
        ):
            some = _most_varied(maps, self.channels or len(maps))[:, None]
            logits = _seen_through(black_box, image, label, some, alternative, seed)
            scores.append((logits.softmax(0).view(-1, 1, 1, 1) * some).sum(0))
        floor = all_maps.abs().amax((1, 2, 3)).to(images.dtype) * _ROUNDING
        return MaskerOutput(mask_from_attributions(torch.stack(scores), floor), torch.stack(scores))


def stretched(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """`H`: maps (n, 1, h, w) enlarged bilinearly and each brought to [0, 1]; a constant one becomes
    0.
    """
    large = resize_maps(maps, size)
    low, high = large.amin((2, 3), keepdim=True), large.amax((2, 3), keepdim=True)
    return ((large - low) / (high - low).clamp_min(torch.finfo(large.dtype).tiny)).clamp_max(1)


def _most_varied(maps: Tensor, count: int) -> Tensor:
    """The maps (count, h, w) of the largest variance over the positions, in their own order."""
    if count >= len(maps):
        return maps
    return maps[
        maps.flatten(1)
        .var(1, correction=0)
        .argsort(descending=True, stable=True)[:count]
        .sort()
        .values
    ]


def _seen_through(
    black_box: BlackBox,
    image: Images,
    label: Tensor,
    maps: Tensor,
    alternative: Alternative,
    seed: int,
) -> Tensor:
    """The label's logit for the picture seen through each map (n, 1, h, w), (n,)."""
    generator = Generator().manual_seed(seed)
    fill = shared_fill(alternative, image, generator)
    answers = []
    for some in torch.split(maps, micro_batch(black_box)):
        masks = stretched(some, (image.shape[2], image.shape[3]))
        if fill is not None:
            edits = compose(image, masks, fill)
        else:
            edits = alternative.edit(
                image.expand(len(masks), -1, -1, -1), masks, Generator().manual_seed(seed)
            )
        answers.append(black_box(edits)[:, label])
    return torch.cat(answers)
