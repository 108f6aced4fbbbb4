"""Queries: the images that a model is queried with to distill it."""

import hashlib
from dataclasses import dataclass
from typing import Any, final

import torch

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Logits
from saliencykit.data.training_images import TrainingImages
from saliencykit.networks.model_fingerprint import fingerprint
from saliencykit.surrogate.fidelity import fidelity
from saliencykit.surrogate.masked_images import (
    AREAS,
    MaskedImages,
    held_out_images,
    training_images,
)

MEMORY = 4 * 2**30
"""Bytes for the masked images, at most."""
_VIEWS = 1 + len(AREAS)  # of each held-out image
_HELD_OUT = 64  # images for the fidelity check, at most; a fifth of a small set or budget


@final
@dataclass(frozen=True)
class Queries:
    """The images that the model is queried with: those of the fidelity check come first.

    Attributes:
        images: All of them.
        held_out: How many source images are held out.
    """

    images: MaskedImages
    held_out: int

    @property
    def checks(self) -> int:
        """How many queries belong to the fidelity check."""
        return self.held_out * _VIEWS

    @classmethod
    def of(cls, every: TrainingImages, queries: int, fill: Alternative, seed: int) -> "Queries":
        """Draw the queries; raises InputError if they do not fit into memory."""
        held = max(1, min(_HELD_OUT, len(every) // 5, queries // 5 // _VIEWS))
        per_image = every.pixels[0].numel()
        if queries * per_image > MEMORY:
            raise InputError(
                f"fit_surrogate(queries={queries}) needs {queries * per_image / 2**30:.0f} GiB for "
                f"the images; at most {MEMORY // per_image} fit."
            )
        order = torch.randperm(
            len(every), generator=torch.Generator().manual_seed(seed), device="cpu"
        )
        first, rest = (TrainingImages(every.pixels[i], None) for i in (order[:held], order[held:]))
        checks = held_out_images(first, fill, seed)
        training = training_images(rest, queries - len(checks), fill, seed)
        # numbered as the user gave them
        source = torch.cat([order[:held][checks.source], order[held:][training.source]])
        pixels, area = (
            torch.cat([getattr(checks, name), getattr(training, name)])
            for name in ("pixels", "area")
        )
        return cls(MaskedImages(pixels, source, area), held)

    def summary(self, every: TrainingImages) -> str:
        """What is about to happen, in one line."""
        height, width = every.pixels.shape[2:]
        return (
            f"{len(every)} images of {height}x{width}, {self.held_out} of them held out; "
            f"{len(self.images)} queries, {self.checks} of them for the fidelity check"
        )

    def source_hash(
        self, original: BlackBox, every: TrainingImages, fill: Alternative, seed: int
    ) -> str:
        """A short hash of model, images and settings: what cached answers belong to."""
        pixels = hashlib.sha256(every.pixels.contiguous().numpy().data).hexdigest()
        # not the model's repr, which may contain an address or a counter
        model = f"{name_of(original)} {original.class_names} {fingerprint(original)}"
        settings = f"{self.held_out} {every.pixels.shape} {pixels} {fill!r} {seed}"
        return hashlib.sha256(f"{model} {settings}".encode()).hexdigest()[:16]

    def fidelity(self, surrogate: TorchBlackBox, answers: Logits) -> dict[str, dict[str, Any]]:
        """How well a surrogate predicts the answers of the held-out images, see `fidelity`.

        Args:
            surrogate: The trained network.
            answers: Of the model to all queries.
        """
        images = self.images.rows(slice(0, self.checks))
        with torch.no_grad():
            parts = [
                surrogate(images.images(index).to(surrogate.device)).cpu()
                for index in torch.split(torch.arange(len(images), device="cpu"), 64)
            ]
        kinds = ["whole", *(f"{area:.0%} kept" for area in AREAS)]
        rows = {
            kind: torch.arange(i, len(images), _VIEWS, device="cpu") for i, kind in enumerate(kinds)
        }
        return fidelity(torch.cat(parts), answers[: self.checks], rows, surrogate.output)
