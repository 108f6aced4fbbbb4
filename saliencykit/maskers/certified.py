"""Certified: a masker whose regions keep the decision with a given frequency."""

import json
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import final

import torch
from msgspec import Struct
from torch import Generator, Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Inputs, Masker, ranked_by
from saliencykit.core.masker_output import MaskerOutput
from saliencykit.core.output import probability
from saliencykit.core.types import Images, Labels, Logits, Mask, PerImage
from saliencykit.maskers.image_statistics import SHARPNESS, STATISTICS, image_statistics
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.networks.model_fingerprint import fingerprint
from saliencykit.storage.atomic_files import write_text
from saliencykit.storage.typed_json import Count, Finite, Fraction

AREAS = (
    0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.37, 0.45, 0.55, 0.65, 0.8, 1.0,
)  # fmt: skip
"""The areas that a certified region may have; 1 is the whole image."""
FORMAT = "saliencykit-certificate"


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
        if (
            len(self.sharpness.center) != SHARPNESS.stop
            or len(self.look.center) != STATISTICS - SHARPNESS.stop
        ):
            raise ValueError(f"expected {STATISTICS} statistics of the images")

    def expected(self, own: PerImage, probability: PerImage) -> Tensor:
        """The log-odds of the area that is expected to be needed, (B,)."""
        columns = (torch.ones_like(own), log_odds(own), log_odds(probability))
        return sum((a * column for a, column in zip(self.slope, columns, strict=True)), own * 0)

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


class CertifiedMethod(Struct):
    """What a file says of a method with a certificate."""

    masker: str
    certificate: Certificate


NO_GUARANTEE = "no guarantee: this image is unlike the calibration images"
OTHER_CLASS = "no guarantee: the calibration was for the top class of each image"


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class Certified(Masker):
    """A masker whose mask has the area at which the region keeps the decision, with a frequency
    that was calibrated; see `calibrate`, which makes it.

    Args:
        masker: Orders the pixels.
        certificate: The result of the calibration.
        text: The masker as a text, such as `cam`, where there is one.
        logits: Of the images that it is only called on, see `one_pass`.

    References:
        Angelopoulos et al. 2022, "Conformal risk control".
    """

    masker: Masker
    certificate: Certificate
    text: str | None = None
    logits: Logits | None = None

    def __post_init__(self) -> None:
        """What the class says elsewhere, its masker says here."""
        object.__setattr__(self, "needs_gradient", self.masker.needs_gradient)

    @property
    def stands_for(self) -> Masker:
        """The masker, for messages."""
        return self.masker

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """The nested mask of the certified area, 1 everywhere where that is the whole image."""
        masker, logits = self.masker, self.logits
        if logits is None:
            masker, logits = masker.predict_masker(black_box, images)
        output = ranked_by(masker, black_box, images, labels, generator)
        own = probability(logits, labels, black_box.output)
        places = self.certificate.areas(output.mask.mean((1, 2, 3)), own)
        return replace(output, mask=nested_steps(output, places), box_threshold=None)

    def for_black_box(self, black_box: BlackBox, *, inputs: Inputs = "raw") -> Masker:
        """The same with its masker made ready.

        Raises:
            InputError: It was calibrated for a model with other weights.
        """
        if fingerprint(black_box) != self.certificate.fingerprint:
            raise InputError(
                f"this masker was certified for another model than {name_of(black_box)}, or for "
                "other weights of it; calibrate(model, masker, images) makes a new certificate."
            )
        return replace(self, masker=self.masker.bound_to(black_box, inputs=inputs))

    def one_pass(self, black_box: BlackBox, images: Images) -> tuple[Masker, Logits]:
        """That of its masker."""
        masker, logits = self.masker.predict_masker(black_box, images)
        return replace(self, masker=masker, logits=logits), logits

    def remarks(self, images: Images, logits: Logits, labels: Labels) -> tuple[str, ...]:
        """The guarantee, or that there is none: top classes were calibrated."""
        unlike = self.certificate.unlike(images, logits).tolist()
        other = (logits.argmax(1) != labels).tolist()
        return tuple(
            NO_GUARANTEE if far else OTHER_CLASS if another else self.certificate.words
            for far, another in zip(unlike, other, strict=True)
        )

    def identity(self) -> str:
        """That of the masker, with a hash of the certificate."""
        certificate, digest = self.certificate, sha256(repr(self.certificate).encode()).hexdigest()
        promise = f"keep={certificate.keep:g}, level={certificate.level:g}"
        return f"{self.masker.identity()} certified({promise}) {digest[:12]}"

    def save(self, path: str | Path) -> Path:
        """Write a file that `masker=` takes: a trained masker with its certificate
        (`.safetensors`), or the name of a method with it (`.json`).

        Args:
            path: The file.

        Returns:
            The path.

        Raises:
            InputError: The suffix does not suit the masker, or the masker is an object of your own.
        """
        path = Path(path).expanduser()
        certificate = asdict(self.certificate)
        if isinstance(self.masker, RealTimeMasker) and path.suffix == ".safetensors":
            metadata = dict(self.masker.metadata) | {"certificate": certificate}
            return replace(self.masker, metadata=metadata).save(path)
        if self.text is None or path.suffix != ".json":
            suits = ".safetensors" if isinstance(self.masker, RealTimeMasker) else ".json"
            raise InputError(
                f"save({str(path)!r}): this masker is saved as {suits}, and one that is no trained "
                "masker only if it was given to calibrate by name, such as 'cam'."
            )
        entries = {"format": FORMAT, "masker": self.text, "certificate": certificate}
        write_text(path, json.dumps(entries, indent=1))
        return path

    def __repr__(self) -> str:
        kept = f"keep={self.certificate.keep:g}, level={self.certificate.level:g}"
        return f"Certified({self.masker!r}, {kept})"


def nested_steps(output: MaskerOutput, places: Tensor) -> Mask:
    """For each image the nested mask of one of `AREAS`.

    Args:
        output: Of B images, see `ranked`.
        places: (B,) places in `AREAS`.
    """
    whole = torch.ones_like(output.mask)
    every = torch.cat([output.nested(AREAS[:-1]), whole], 1)
    return every[torch.arange(len(every), device=every.device), places][:, None]


def steps_of(areas: Tensor) -> Tensor:
    """The place of the least of `AREAS` that is as large, for each area in [0, 1]."""
    steps = torch.tensor(AREAS, dtype=areas.dtype, device=areas.device)
    return torch.searchsorted(steps, areas - 1e-9).clamp(max=len(AREAS) - 1)


def log_odds(values: Tensor) -> Tensor:
    """log(p / (1 - p)), for p within 0.001 of 0 and 1 that of 0.001 and 0.999."""
    return values.clamp(1e-3, 1 - 1e-3).logit()
