"""CAM: the class's own rows of the head, laid over the last feature map."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Generator

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker, MaskerOutput
from saliencykit.core.query_batches import micro_batch
from saliencykit.core.types import Images, Labels
from saliencykit.maskers.normalize import mask_from_attributions
from saliencykit.networks.classifier_head import pooled_head
from saliencykit.networks.feature_maps import read_feature_maps


@final
@dataclass(frozen=True, kw_only=True)
class Cam(Masker):
    """Class activation map: how much each position of the last feature map adds to the label's
    logit.

    `scores(x, y) = sum over k of w_ck A_k(x, y)`, where `A` are the maps that the head pools and
    `w_c` its weights for the class: their mean, and the bias, *is* the logit. One forward pass, no
    gradients, exact; as coarse as the map (7 x 7 of 224 px). Only for heads of pooling and one
    linear layer, or of a 1x1 convolution and pooling (a rectifier between the two is left out);
    Grad-CAM is its extension to others, and for a linear head is this map, less its negative part,
    over the number of positions.

    The mask is the positive part of the scores divided by its maximum.

    Raises:
        InputError: The box shows no torch module, or its model has no such head.

    Example:
        >>> from saliencykit.black_boxes.torch_module import TorchBlackBox
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        ...     torch.nn.Linear(8, 4),
        ... )
        >>> black_box, images = TorchBlackBox(net, size=32), torch.rand(2, 3, 32, 32)
        >>> scores = Cam().mask(black_box, images, torch.tensor([0, 3]), Generator()).attributions
        >>> bool((scores.mean((1, 2, 3)) + net[4].bias[[0, 3]] - net(images)[[0, 1], [0, 3]]).abs().max() < 1e-5)
        True

    References:
        Zhou, Khosla, Lapedriza, Oliva & Torralba 2016, "Learning Deep Features for Discriminative
        Localization", section 2, equation 2.
    """

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """The class's rows over the map, and their positive part as the mask."""
        if black_box.module is None:
            raise InputError(
                f"Cam reads the last feature map of a torch module, and {name_of(black_box)} "
                "shows none. Use masker='rise' or 'occlusion', which only ask."
            )
        head = pooled_head(black_box, images)
        if head is None:
            raise InputError(
                "Cam is for heads of pooling and one linear layer, and the head of "
                f"{name_of(black_box.module)} is another. Use masker='grad-cam', which is the "
                "same map for every head."
            )
        found, step = [], micro_batch(black_box)
        for some, asked in zip(torch.split(images, step), torch.split(labels, step), strict=True):
            maps = read_feature_maps(black_box, some, [head.feature_map])[1][0].detach()
            found.append(torch.einsum("bkhw,bk->bhw", maps, head.weight.to(maps)[asked])[:, None])
        scores = torch.cat(found).to(images.dtype)
        return MaskerOutput(mask_from_attributions(scores), scores)
