"""Captum's baselines and feature masks for maskers."""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, cast, final

import torch
from torch import Generator, Tensor

from saliencykit.core.alternative import Alternative
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images, Mask


@final
@dataclass(frozen=True, eq=False)
class GivenBaseline(Alternative):
    """A given image: Captum's baseline.

    Args:
        image: (1, C, H, W), in the units of the images.

    Example:
        >>> baseline = GivenBaseline(torch.full((1, 3, 2, 2), -2.0))
        >>> baseline(torch.rand(4, 3, 2, 2), generator=Generator()).unique().item()
        -2.0
    """

    image: Tensor

    def __repr__(self) -> str:
        """The shape, without the pixels."""
        return f"GivenBaseline(image of {tuple(self.image.shape)})"

    def fill(self, images: Images, generator: Generator, mask: Mask | None = None) -> Images:
        """The image, for every row."""
        return self.image.to(images).expand_as(images).clone()


def with_baseline(masker: Masker, image: Tensor) -> Masker:
    """The masker with an image (1, C, H, W) in place of its own alternative.

    Raises:
        InputError: It has no alternative, so that a baseline would make no difference, or needs one
            of another kind.

    Example:
        >>> from saliencykit.maskers import Occlusion
        >>> with_baseline(Occlusion(), torch.zeros(1, 3, 2, 2)).alternative
        GivenBaseline(image of (1, 3, 2, 2))
    """
    if not _has(masker, "alternative"):
        raise InputError(
            f"{name_of(masker)} replaces no pixels, so that baselines=... would make no "
            "difference; leave them out, or use a masker that does, such as 'occlusion', 'rise', "
            "'feature-ablation' or 'iterative'."
        )
    return _replaced(masker, alternative=GivenBaseline(image))


def with_regions(masker: Masker, features: Tensor) -> Masker | None:
    """The masker with features (n, C, H, W) as its regions; None if it has no regions, or if the
    channels differ in their features.

    Example:
        >>> from saliencykit.maskers import FeatureAblation
        >>> with_regions(FeatureAblation(), torch.tensor([[[[0, 4]]]])).regions.shape
        torch.Size([1, 1, 1, 2])
    """
    if not _has(masker, "regions") or not bool((features == features[:, :1]).all()):
        return None
    return _replaced(masker, regions=features[:, :1])


def averaged(maps: Tensor, features: Tensor) -> Tensor:
    """Replace every value by the mean over its feature in its row.

    Args:
        maps: (B, C, H, W).
        features: (1, C, H, W) or (B, C, H, W), integers; equal ones are one feature.

    Example:
        >>> maps, features = torch.tensor([[[[1.0, 3.0, 5.0]]]]), torch.tensor([[[[7, 7, 2]]]])
        >>> averaged(maps, features).tolist()
        [[[[2.0, 2.0, 5.0]]]]
    """
    names, numbers = torch.unique(features, return_inverse=True)
    index, values = numbers.expand(maps.shape).flatten(1), maps.flatten(1)
    sums = values.new_zeros(len(maps), len(names)).scatter_add_(1, index, values)
    counts = torch.zeros_like(sums).scatter_add_(1, index, torch.ones_like(values))
    return (sums / counts.clamp_min(1)).gather(1, index).view(maps.shape)


def whole_numbers(features: Tensor) -> Tensor:
    """A feature mask as int64.

    Raises:
        InputError: Its values are not integers.
    """
    if features.is_floating_point() and not torch.equal(features, features.round()):
        raise InputError(
            "MaskerAttribution.attribute(feature_mask=...) takes whole numbers; got fractions."
        )
    return features.long()


def _has(masker: Masker, name: str) -> bool:
    return is_dataclass(masker) and any(each.init and each.name == name for each in fields(masker))


def _replaced(masker: Masker, **changes: Any) -> Masker:
    return cast(Masker, replace(cast(Any, masker), **changes))
