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
from saliencykit.core.types import Images, Labels, Logits, Mask
from saliencykit.maskers.certificate import AREAS, Certificate
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.networks.model_fingerprint import fingerprint
from saliencykit.storage.atomic_files import write_text

FORMAT = "saliencykit-certificate"


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
