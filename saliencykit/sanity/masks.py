"""CheckedMasker: a masker with the images of a sanity check, and its masks for any labels."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from torch import Generator, Tensor

from saliencykit.black_boxes.cached import CachedCopies
from saliencykit.core import checks
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of, reason_of
from saliencykit.core.errors import GradientError, InputError
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.registry.coerce import as_black_box, as_masker
from saliencykit.runs.batch_runner import run_batch

OnStage: TypeAlias = Callable[[str, int, int], object]
"""Called with the name of the stage, the number of finished images or steps, and the total."""


@final
@dataclass(frozen=True)
class Masks:
    """Masks of many images.

    Attributes:
        values: (N, 1, H, W) float32 on the CPU; NaN where there is no mask.
        failures: Why masks are missing, and of how many images.
    """

    values: Mask
    failures: Mapping[str, int]

    @property
    def known(self) -> Tensor:
        """(N,) bool: is there a mask?"""
        return ~self.values.flatten(1).isnan().any(1)


@final
@dataclass(frozen=True)
class CheckedMasker:
    """A masker and the images that it is checked on.

    Attributes:
        black_box: The classifier.
        masker: The masker.
        images: (N, C, H, W).
        labels: (N,), the images' own classes, on the CPU.
        seed: Random seed.
        batch_size: Images per batch, >= 1.
        on_stage: Called after each batch.
    """

    black_box: BlackBox
    masker: Masker
    images: Images
    labels: Labels
    seed: int = 0
    batch_size: int = 16
    on_stage: OnStage | None = None

    @staticmethod
    def of(
        who: str,
        model: object,
        masker: Masker | str,
        images: Images,
        labels: Labels | None,
        seed: int,
        batch_size: int,
        on_stage: OnStage | None,
        *,
        at_least: int,
    ) -> "CheckedMasker":
        """Coerce and check the arguments of a sanity check.

        Args:
            who: The check, for error messages.
            model: As for `explain`.
            masker: A Masker, a text, or a trained masker's file.
            images: (N, C, H, W).
            labels: (N,); None: the model's predictions.
            seed: Random seed.
            batch_size: Images per batch.
            on_stage: Called after each batch.
            at_least: The smallest N.

        Raises:
            InputError: There are too few images, or the labels do not fit.
        """
        black_box, known = as_black_box(model), as_masker(masker)
        checks.images(images, who)
        if len(images) < at_least:
            raise InputError(
                f"{who} got {len(images)} images; it needs {at_least} or more, and some hundred "
                "for a clear verdict."
            )
        own = predicted_labels(black_box, images) if labels is None else labels.cpu()
        checks.labels(own, len(images), black_box.num_classes, who)
        return CheckedMasker(black_box, known, images, own, seed, batch_size, on_stage)

    def masks(self, labels: Labels, stage: str) -> Masks:
        """The masker's masks for these labels, a batch at a time; where a batch fails, image by
        image.

        Args:
            labels: (N,).
            stage: The name of this stage, for `on_stage`.

        Raises:
            GradientError: The masker needs gradients and the model is query-only.
            InputError: There is no mask of any image; the message has the first failure.
            DeviceMemoryError: The device's memory is too small for a batch.

        Example:
            >>> from saliencykit.maskers import CenterBox
            >>> from saliencykit.testing import PlantedEvidence
            >>> black_box = PlantedEvidence()
            >>> images, labels = black_box.examples(3, generator=torch.Generator().manual_seed(0))
            >>> checked = CheckedMasker(black_box, CenterBox(), images, labels)
            >>> checked.masks(labels, "masks").known.tolist()
            [True, True, True]
        """
        black_box, device = CachedCopies(self.black_box), self.black_box.device
        rows, failures, total = list[Tensor](), Counter[str](), len(self.images)

        def explain(some: Sequence[int]) -> list[Mask]:
            part = slice(some[0], some[-1] + 1)
            images, generator = self.images[part].to(device), Generator().manual_seed(self.seed)
            mask = self.masker(black_box, images, labels[part].to(device), generator=generator)
            # the contract has checked this already, unless the masker is a foreign wrapper
            checks.mask(mask := mask.float().cpu(), images, name_of(self.masker))
            return [mask[i : i + 1] for i in range(len(mask))]

        def failed(row: int, error: Exception) -> Mask:
            if isinstance(error, GradientError):
                raise error
            failures[reason_of(error)] += 1
            shape = (1, 1, *self.images.shape[2:])
            return torch.full(shape, float("nan"), dtype=torch.float32, device="cpu")

        for first in range(0, total, self.batch_size):
            last = min(first + self.batch_size, total)
            rows += run_batch(
                explain, range(first, last), failed, device=device, who=name_of(self.masker)
            )
            if self.on_stage is not None:
                self.on_stage(stage, last, total)
        masks = Masks(torch.cat(rows), dict(failures))
        if not bool(masks.known.any()):
            raise InputError(
                f"{name_of(self.masker)} returned no mask of any of the {total} images: "
                f"{next(iter(failures), '')}"
            )
        return masks


def predicted_labels(black_box: BlackBox, images: Images, batch_size: int = 64) -> Labels:
    """The class that the black box predicts for each image, (N,) on the CPU.

    Args:
        black_box: The classifier.
        images: (N, C, H, W).
        batch_size: Images per batch, >= 1.
    """
    with torch.no_grad():
        parts = torch.split(images, batch_size)
        return torch.cat([black_box(some.to(black_box.device)).argmax(1).cpu() for some in parts])
