"""Captum's baselines and feature masks for maskers: what replaces, and which pixels are one
feature.
"""

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
    """A picture that was given: Captum's baseline.

    Args:
        picture: (1, C, H, W), in the units of the images.

    Example:
        >>> GivenBaseline(torch.full((1, 3, 2, 2), -2.0))(torch.rand(4, 3, 2, 2), generator=Generator()).unique().item()
        -2.0
    """

    picture: Tensor

    def __repr__(self) -> str:
        """The shape, and not the pixels."""
        return f"Given(picture of {tuple(self.picture.shape)})"

    def fill(self, images: Images, generator: Generator, mask: Mask | None = None) -> Images:
        """The picture; nothing is drawn."""
        return self.picture.to(images).expand_as(images).clone()


def with_baseline(masker: Masker, picture: Tensor) -> Masker:
    """The masker with a picture (1, C, H, W) where it would put its own alternative.

    Raises:
        InputError: It replaces nothing, so that a baseline would make no difference, or nothing but
            what it blurs itself.

    Example:
        >>> from saliencykit.maskers.perturbation.occlusion import Occlusion
        >>> type(with_baseline(Occlusion(), torch.zeros(1, 3, 2, 2)).alternative).__name__
        'Given'
    """
    if not _has(masker, "alternative"):
        raise InputError(
            f"{name_of(masker)} replaces no pixels, so that baselines=... would make no "
            "difference; drop them, or use a masker that does, such as 'occlusion', 'rise', "
            "'feature-ablation' or 'iterative'."
        )
    return _replaced(masker, alternative=GivenBaseline(picture))


def with_regions(masker: Masker, features: Tensor) -> Masker | None:
    """The masker asked about features (n, C, H, W) as its regions; None if it knows none, or
    channels differ in theirs.

    Example:
        >>> from saliencykit.maskers.perturbation.feature_ablation import FeatureAblation
        >>> with_regions(FeatureAblation(), torch.tensor([[[[0, 4]]]])).regions.shape
        torch.Size([1, 1, 1, 2])
    """
    if not _has(masker, "regions") or not bool((features == features[:, :1]).all()):
        return None
    return _replaced(masker, regions=features[:, :1])


def averaged(maps: Tensor, features: Tensor) -> Tensor:
    """Maps (B, C, H, W) with every value replaced by the mean over its feature in its row.

    Args:
        maps: Any numbers.
        features: (1, C, H, W) or (B, C, H, W), whole numbers; equal ones are one feature.

    Example:
        >>> averaged(torch.tensor([[[[1.0, 3.0, 5.0]]]]), torch.tensor([[[[7, 7, 2]]]])).tolist()
        [[[[2.0, 2.0, 5.0]]]]
    """
    names, numbers = torch.unique(features, return_inverse=True)
    index, values = numbers.expand(maps.shape).flatten(1), maps.flatten(1)
    sums = values.new_zeros(len(maps), len(names)).scatter_add_(1, index, values)
    counts = values.new_zeros(len(maps), len(names)).scatter_add_(1, index, torch.ones_like(values))
    return (sums / counts.clamp_min(1)).gather(1, index).view(maps.shape)


def whole_numbers(features: Tensor) -> Tensor:
    """A feature mask as int64.

    Raises:
        InputError: Its values are not whole numbers.
    """
    if features.is_floating_point() and not torch.equal(features, features.round()):
        raise InputError(
            "MaskerAttribution.attribute(feature_mask=...) takes whole numbers; got fractions: "
            "give integers."
        )
    return features.long()


def _has(masker: Masker, name: str) -> bool:
    return is_dataclass(masker) and any(
        field.name == name and field.init for field in fields(masker)
    )


def _replaced(masker: Masker, **changes: Any) -> Masker:
    return cast(Masker, replace(cast(Any, masker), **changes))
