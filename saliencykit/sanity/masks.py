"""Masks of many pictures; what fails on one picture is a counted row and no stop."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from torch import Generator, Tensor

from saliencykit.black_boxes.cached import CachedCopies
from saliencykit.core import checks
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of, reason_of
from saliencykit.core.errors import GradientError, InputError, SaliencyKitError
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images, Labels, Mask

OnProgress: TypeAlias = Callable[[str, int, int], object]
"""Called with what is done, how much of it is, and of how much."""


@final
@dataclass(frozen=True)
class Masks:
    """What a masker answered.

    Attributes:
        values: (N, 1, H, W) float32 on the CPU; NaN where there is no mask.
        reasons: Why masks are missing, and of how many pictures.
    """

    values: Mask
    reasons: Mapping[str, int]

    @property
    def known(self) -> Tensor:
        """(N,) bool: is there a mask?"""
        return ~self.values.flatten(1).isnan().any(1)


def masks_of(
    masker: Masker,
    black_box: BlackBox,
    images: Images,
    labels: Labels,
    *,
    seed: int = 0,
    batch_size: int = 16,
    what: str = "masks",
    on_progress: OnProgress | None = None,
) -> Masks:
    """Ask a masker about pictures, a batch at a time; where that fails, about each picture on its
    own.

    Args:
        masker: Who is asked.
        black_box: The classifier; its copy for many evaluations is made once.
        images: (N, C, H, W).
        labels: (N,).
        seed: Of what the masker draws; every batch starts from it, and numbers depend on the
            picture (`core.draw`).
        batch_size: Pictures at once, >= 1.
        what: How progress calls this.
        on_progress: Called after each batch.

    Raises:
        GradientError: The masker needs gradients and the box has none.
        InputError: There is no mask of any picture; the first reason is given.
        SaliencyKitError: There is not enough memory for a batch.

    Example:
        >>> from saliencykit.maskers.baselines import CenterBox
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box = PlantedEvidence()
        >>> images, labels = black_box.examples(3, generator=torch.Generator().manual_seed(0))
        >>> masks_of(CenterBox(), black_box, images, labels).known.tolist()
        [True, True, True]
    """
    kept, rows, reasons = CachedCopies(black_box), list[Tensor](), Counter[str]()

    def ask(first: int, last: int) -> Mask:
        some, asked = (
            images[first:last].to(black_box.device),
            labels[first:last].to(black_box.device),
        )
        mask = masker(kept, some, asked, generator=Generator().manual_seed(seed)).float().cpu()
        # the contract has looked already, unless the masker is somebody's wrapper
        checks.mask(mask, some, name_of(masker))
        return mask

    for first in range(0, len(images), batch_size):
        last = min(first + batch_size, len(images))
        try:
            rows.append(ask(first, last))
        except (torch.cuda.OutOfMemoryError, MemoryError) as error:
            raise SaliencyKitError(
                f"{name_of(masker)} needs more memory than {black_box.device} has; write batch_size=1."
            ) from error
        except GradientError:
            raise
        except Exception:
            for row in range(first, last):
                try:
                    rows.append(ask(row, row + 1))
                except Exception as error:
                    reasons[reason_of(error)] += 1
                    rows.append(torch.full((1, 1, *images.shape[2:]), float("nan")))
        if on_progress is not None:
            on_progress(what, last, len(images))
    masks = Masks(torch.cat(rows), dict(reasons))
    if not bool(masks.known.any()):
        raise InputError(
            f"{name_of(masker)} gave no mask of any of the {len(images)} pictures: "
            f"{next(iter(reasons), '')}"
        )
    return masks


def own_answers(black_box: BlackBox, images: Images, batch_size: int = 64) -> Labels:
    """The class that the box itself gives each picture, (N,) on the CPU.

    Args:
        black_box: The classifier.
        images: (N, C, H, W).
        batch_size: Pictures at once, >= 1.
    """
    with torch.no_grad():
        return torch.cat(
            [
                black_box(some.to(black_box.device)).argmax(1).cpu()
                for some in torch.split(images, batch_size)
            ]
        )
