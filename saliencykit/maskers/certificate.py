"""Certificate: how large a region must be to keep the decision, and for which images that holds."""

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from saliencykit.core.types import Images, Logits, PerImage
from saliencykit.maskers.image_statistics import SHARPNESS, STATISTICS, image_statistics
from saliencykit.storage.typed_json import Count, Finite, Fraction

AREAS = (
    0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.37, 0.45, 0.55, 0.65, 0.8, 1.0,
)  # fmt: skip
"""The areas that a certified region may have; 1 is the whole image."""


@final
@dataclass(frozen=True, kw_only=True)
class Likeness:
    """A group of statistics of the calibration images, and how far like images are from their mean.

    Attributes:
        center: The mean.
        scale: The inverse of the covariance.
        distance: The largest squared Mahalanobis distance of like images.
    """

    center: tuple[Finite, ...]
    scale: tuple[tuple[Finite, ...], ...]
    distance: Finite

    def __post_init__(self) -> None:
        """Check the sizes, which a file may have wrong."""
        if {len(self.scale), *map(len, self.scale)} != {len(self.center)}:
            raise ValueError(f"expected a scale of {len(self.center)} rows and columns")

    @staticmethod
    def of(modeled: Tensor, held: Tensor, share: float) -> "Likeness":
        """From statistics (n, d), of which the second ones set the distance.

        Args:
            modeled: Give mean and covariance.
            held: Others.
            share: Of like images within the distance, in (0, 1).
        """
        center = modeled.mean(0)
        away = modeled - center
        spread = away.T @ away / len(modeled)
        # statistics may all be equal
        spread = spread + torch.diag(1e-3 * spread.diagonal() + 1e-9)
        scale = torch.linalg.inv(spread)
        one = Likeness(
            center=tuple(center.tolist()), scale=tuple(map(tuple, scale.tolist())), distance=0.0
        )
        far = sorted(one.distances(held).tolist())
        return replace(one, distance=far[min(len(far) - 1, int(share * (len(far) + 1)))])

    def distances(self, statistics: Tensor) -> Tensor:
        """The squared Mahalanobis distances of statistics (B, d), (B,)."""
        away = statistics - torch.tensor(self.center, dtype=statistics.dtype, device="cpu")
        scale = torch.tensor(self.scale, dtype=statistics.dtype, device="cpu")
        return torch.einsum("bi,ij,bj->b", away, scale, away)


@final
@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What a calibration found: how large a region must be, and for which images that holds.

    Attributes:
        keep: A region keeps the decision if it keeps at least this share of the whole image's
            p(class), under `alternative`.
        level: The frequency with which it does, on images like the calibration ones.
        alternative: What replaced the pixels.
        images: Number of calibration images.
        mean_area: Mean certified area on them.
        slope: Of the area that is expected to be needed, in log-odds: constant, log-odds of the
            masker's own area, log-odds of p(class).
        margin: What is added to the expectation, in log-odds.
        sharpness: Of the images, by which blur and enlarged thumbnails are told from them.
        look: Of their contrast, brightness and color, and of the model's answers.
        fingerprint: Of the model; None for a model whose weights cannot be read.
    """

    keep: Fraction
    level: Fraction
    alternative: str
    images: Count
    mean_area: Fraction
    slope: tuple[Finite, Finite, Finite]
    margin: Finite
    sharpness: Likeness
    look: Likeness
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        """Check the numbers of statistics, which a file may have wrong."""
        sizes = (len(self.sharpness.center), len(self.look.center))
        if sizes != (SHARPNESS.stop, STATISTICS - SHARPNESS.stop):
            raise ValueError(f"expected {STATISTICS} statistics of the images")

    def expected(self, own: PerImage, probability: PerImage) -> Tensor:
        """The log-odds of the area that is expected to be needed, (B,)."""
        return area_inputs(own, probability) @ own.new_tensor(self.slope)

    def areas(self, own: PerImage, probability: PerImage) -> Tensor:
        """The place in `AREAS` of each image's region, (B,) int64: the least that is large enough.

        Args:
            own: Mean of the masker's own mask.
            probability: p(class) of the whole image.
        """
        wanted = torch.sigmoid(self.expected(own.double(), probability.double()) + self.margin)
        return steps_of(wanted)

    def unlike(self, images: Images, logits: Logits) -> Tensor:
        """Is the image unlike the calibration images? (B,) bool, on the CPU."""
        statistics = image_statistics(images, logits)
        sharpness, look = statistics[:, SHARPNESS], statistics[:, SHARPNESS.stop :]
        blurred = self.sharpness.distances(sharpness) > self.sharpness.distance
        return blurred | (self.look.distances(look) > self.look.distance)

    def with_mean_area(self, own: PerImage, probability: PerImage) -> "Certificate":
        """The same with the mean certified area of images with these areas and probabilities."""
        mean = torch.tensor(AREAS, device="cpu")[self.areas(own, probability)].mean()
        return replace(self, mean_area=float(mean))

    @property
    def words(self) -> str:
        """The guarantee in a sentence."""
        return (
            f"certified: on {self.level:.0%} of images like the {self.images} of the calibration "
            f"such a region keeps {self.keep:.0%} of the probability under {self.alternative}"
        )


def steps_of(areas: Tensor) -> Tensor:
    """The place of the least of `AREAS` that is as large, for each area in [0, 1]."""
    steps = torch.tensor(AREAS, dtype=areas.dtype, device=areas.device)
    return torch.searchsorted(steps, areas - 1e-9).clamp(max=len(AREAS) - 1)


def area_inputs(own: PerImage, probability: PerImage) -> Tensor:
    """What the needed area is predicted from, (B, 3): one, and the log-odds of the masker's own
    area and of p(class).
    """
    return torch.stack([torch.ones_like(own), log_odds(own), log_odds(probability)], 1)


def log_odds(values: Tensor) -> Tensor:
    """log(p / (1 - p)), for p within 0.001 of 0 and 1 that of 0.001 and 0.999."""
    return values.clamp(1e-3, 1 - 1e-3).logit()
