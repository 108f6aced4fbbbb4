"""Training images: the images of a data set in memory, at the model's size."""

import random
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from saliencykit.core.errors import InputError
from saliencykit.core.types import Images
from saliencykit.data.dataset import Dataset, default_num_workers
from saliencykit.data.label_lookup import class_index
from saliencykit.data.loaded_image import LoadedImage

_FEWEST = 4
_NAMED = 5  # unreadable images that the warning names


@final
@dataclass(frozen=True)
class TrainingImages:
    """Training images in memory.

    Attributes:
        pixels: (N, C, H, W) uint8.
        labels: (N,) int64 as the data set gives them, or None.
        skipped: The images that cannot be used, with the reasons.
    """

    pixels: Tensor
    labels: Tensor | None
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        """N."""
        return len(self.pixels)

    def images(self, index: Tensor) -> Images:
        """Raw pixels in [0, 1] of some images."""
        return self.pixels[index].float() / 255


def read_training_images(
    data: Dataset, *, memory: int | None = None, seed: int = 0, who: str = "fit"
) -> TrainingImages:
    """Read the images of a data set; those that cannot be used are left out, with a warning that
    names them.

    Args:
        data: The data set; its labels are used if all images have one.
        memory: Bytes for the images; of more than fit, a random part is used. None: no limit.
        seed: Random seed of that part.
        who: The function that errors and warnings name.

    Raises:
        InputError: Fewer than four images can be used, their sizes differ, a label is not a class
            of the model, or only some images have labels.
    """
    records = data.records()
    for record in records if data.use_labels else ():
        if record.label is not None:
            _known_class(record.label, record.name, data, who)
    chosen = set(_within(data, memory, seed))
    rows: list[Tensor] = []
    used: list[LoadedImage] = []
    skipped: list[str] = []
    workers = default_num_workers(None)
    for each in data.load(select=lambda index, _: index in chosen, num_workers=workers):
        if each.image is None:
            failure = each.failure or ""
            named = each.name in failure and not each.name.isdigit()
            skipped.append(failure if named else f"{each.name}: {failure}")
            continue
        if rows and each.image.shape[1:] != rows[0].shape:
            raise InputError(
                f"image {each.name} has (channels, height, width) {tuple(each.image.shape[1:])} "
                f"and the first one {tuple(rows[0].shape)}; training takes one size: "
                "resize them first."
            )
        rows.append((each.image[0] * 255).round().to(torch.uint8))
        used.append(each)
    if skipped:
        more = f" ... and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
        warnings.warn(
            f"{who} leaves out {len(skipped)} of {len(chosen)} images: "
            f"{'; '.join(skipped[:_NAMED])}{more}",
            stacklevel=3,
        )
    if len(rows) < _FEWEST:
        raise InputError(
            f"{who} needs at least {_FEWEST} images that can be read; hundreds are better. Got "
            f"{len(rows)}."
        )
    return TrainingImages(torch.stack(rows), _labels(used, who), tuple(skipped))


def _within(data: Dataset, memory: int | None, seed: int) -> Sequence[int]:
    """Indices of the images that fit into memory, which is measured by the first readable one."""
    count = len(data.records())
    if memory is not None and (first := next(data.first(), None)) is not None:
        assert first.image is not None
        fitting = max(_FEWEST, memory // first.image[0].numel())
        if fitting < count:
            return random.Random(seed).sample(range(count), fitting)
    return range(count)


def _known_class(label: int | str, name: str, data: Dataset, who: str) -> None:
    try:
        class_index(label, data.black_box, data.classes)
    except InputError as error:
        raise InputError(
            f"{who}: image {name} has the label {label!r}: {error} Or leave all labels out: the "
            "model's own classes are used then."
        ) from error


def _labels(used: Sequence[LoadedImage], who: str) -> Tensor | None:
    labels = [each.label for each in used if each.label is not None]
    if not labels:
        return None
    if len(labels) < len(used):
        without = next(each.name for each in used if each.label is None)
        raise InputError(
            f"{who}: image {without} has no label, and {len(labels)} other images have one; give "
            "labels to all images, or to none."
        )
    single = sorted(label for label, count in Counter(labels).items() if count == 1)
    if 0 < len(single) < 20:
        warnings.warn(
            f"{who}: class {', '.join(map(str, single))} has only one image; its masks may be "
            "poor.",
            stacklevel=4,
        )
    return torch.tensor(labels, device="cpu")
