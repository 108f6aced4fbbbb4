"""Pictures: what a masker is trained on, read once, at the box's own size."""

import os
import random
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images
from saliencykit.data.images import as_images, read_folder

_NAMED = 5  # pictures that could not be read and are named in the warning


@final
@dataclass(frozen=True)
class TrainingImages:
    """Training pictures in memory.

    Attributes:
        pixels: (N, C, H, W) uint8.
        labels: (N,) int64 as the user gave them, or None.
        skipped: What could not be read, with the reason.
    """

    pixels: Tensor
    labels: Tensor | None
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        """N."""
        return len(self.pixels)

    def images(self, index: Tensor) -> Images:
        """Raw pixels in [0, 1] of some pictures."""
        return self.pixels[index].float() / 255


def read_training_images(
    source: Any,
    labels: Sequence[int] | Tensor | None,
    black_box: BlackBox,
    *,
    memory: int | None = None,
    seed: int = 0,
    who: str = "fit",
) -> TrainingImages:
    """Read pictures of any form; a picture that cannot be read is left out with a warning that
    names it.

    Args:
        source: A folder (with its folders), a list of paths, PIL pictures or arrays, a tensor (N,
            C, H, W) in [0, 1] or of uint8, a data set whose rows are pictures or (picture, label),
            or an iterable of batches (images, labels).
        labels: One class per picture, or None.
        black_box: The classifier, for the size.
        memory: Bytes that the pictures may take; of more than fit in, as many as fit are drawn.
            None: no limit.
        seed: Of the draw.
        who: The function that the errors and warnings name.

    Raises:
        InputError: There is nothing to read, fewer than four pictures could be read, sizes differ,
            or the labels do not fit.
    """
    items, own = _items(source, who)
    if labels is not None and len(labels) != len(items):
        raise InputError(
            f"{who} got {len(items)} pictures and {len(labels)} labels; give one label per "
            "picture, or none."
        )
    given = (
        own
        if labels is None
        else [_class_index(label, position, who) for position, label in enumerate(labels)]
    )
    order = list(range(len(items)))
    limit = len(order) if memory is None else _fitting(items, black_box, memory)
    if len(order) > limit:
        order = sorted(random.Random(seed).sample(order, limit))
    rows: list[Tensor] = []
    kept: list[int] = []
    skipped: list[str] = []
    for position in order:
        try:
            image = _read(items, position, black_box)
        except Exception as error:  # a data set of the user's may raise anything
            skipped.append(
                f"{'' if isinstance(error, InputError) else f'picture {position}: '}{error}"
            )
            continue
        if rows and image.shape[1:] != rows[0].shape:
            raise InputError(
                f"picture {position} has (channels, height, width) {tuple(image.shape[1:])} and "
                f"the first one {tuple(rows[0].shape)}; training takes one size: resize them "
                "first."
            )
        rows.append((image[0] * 255).round().to(torch.uint8))
        kept.append(position)
    if skipped:
        more = f" ... and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
        warnings.warn(
            f"{who} leaves out {len(skipped)} of {len(order)} pictures: "
            f"{'; '.join(skipped[:_NAMED])}{more}",
            stacklevel=3,
        )
    if len(rows) < 4:
        raise InputError(
            f"{who} needs at least 4 pictures that can be read, hundreds are better; got "
            f"{len(rows)}."
        )
    return TrainingImages(torch.stack(rows), _labels(given, kept, black_box, who), tuple(skipped))


def _read(items: Any, position: int, black_box: BlackBox) -> Images:
    """One picture as the box takes it, (1, C, H, W)."""
    item = items[position]
    if isinstance(item, tuple | list) and len(item) == 2:
        item = item[0]
    return as_images(item, black_box, inputs="raw").images


def _fitting(items: Any, black_box: BlackBox, memory: int) -> int:
    """How many pictures of the size of the first readable one fit into so many bytes, at least
    four.
    """
    for position in range(len(items)):
        try:
            return max(4, memory // _read(items, position, black_box)[0].numel())
        except Exception:  # it is named when it is its turn
            continue
    return len(items)


def _labels(
    given: "list[int] | None", kept: list[int], black_box: BlackBox, who: str
) -> Tensor | None:
    if given is None:
        return None
    out = [given[position] for position in kept]
    if min(out) < 0 or max(out) >= black_box.num_classes:
        raise InputError(
            f"{who} got labels from {min(out)} to {max(out)}; the model's classes are "
            f"0..{black_box.num_classes - 1}."
        )
    lonely = [label for label, count in Counter(out).items() if count == 1]
    if lonely and len(lonely) < 20:
        warnings.warn(
            f"{who}: class {', '.join(map(str, sorted(lonely)))} has one picture; its masks rest "
            "on that one.",
            stacklevel=4,
        )
    return torch.tensor(out)


def _items(source: Any, who: str) -> "tuple[Any, list[int] | None]":
    """Something with a length and rows, and the labels that came with it."""
    if isinstance(source, str | os.PathLike):
        if (
            source == ""
        ):  # an unset variable of the shell; a path would be the directory that one is in
            raise InputError("'' is not a folder.")
        return read_folder(Path(source), recursive=True), None
    if isinstance(source, Tensor):
        if source.ndim != 4 or not len(source):
            raise InputError(
                f"{who} takes a tensor of pictures (N, C, H, W); got {tuple(source.shape)}."
            )
        return source, None
    if hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        if not len(source):
            raise InputError(f"{who} got no pictures.")
        return source, _labels_of(source, who)
    if isinstance(source, Iterable):
        images: list[Tensor] = []
        labels: list[Any] = []
        for batch in source:
            pair = batch if isinstance(batch, tuple | list) else (batch, None)
            images.append(pair[0])
            labels.append(pair[1] if len(pair) > 1 else None)
        if not images:
            raise InputError(f"{who} got no batches.")
        known = [label is not None for label in labels]
        if any(known) and not all(known):
            raise InputError(
                f"{who} got labels with {sum(known)} of {len(known)} batches; give them with all, "
                "or with none."
            )
        every = torch.cat(labels) if all(known) else ()
        return torch.cat(images), [
            _class_index(label, row, who) for row, label in enumerate(every)
        ] or None
    raise InputError(
        f"{who} takes a folder, a list of pictures, a tensor (N, C, H, W), a data set or batches "
        f"(images, labels); got {name_of(source)}."
    )


def _labels_of(source: Any, who: str) -> "list[int] | None":
    """The labels of a data set whose rows are (picture, label); None where rows are pictures, or
    all labels are None.
    """
    read: dict[int, Any] = {}
    for position in range(len(source)):
        try:
            row = source[position]
        except Exception:  # the picture will be named when it is read
            continue
        if not (isinstance(row, tuple | list) and len(row) == 2):
            if read:
                raise InputError(
                    f"{who}: picture {position} comes without a label, and those before it with "
                    "one."
                )
            return None
        targets = getattr(source, "targets", None)
        if targets is not None and len(targets) == len(source):
            return [_class_index(target, place, who) for place, target in enumerate(targets)]
        read[position] = row[1]
    if all(label is None for label in read.values()):
        return None
    return [_class_index(read.get(position, 0), position, who) for position in range(len(source))]


def _class_index(label: Any, position: int, who: str) -> int:
    """A label as it is; nothing is looked up, guessed or rounded."""
    try:
        return index(label)
    except TypeError as error:
        raise InputError(
            f"{who} takes labels as class indices, whole numbers; picture {position} has "
            f"{label!r}. Look its name up first, or leave all labels out: the model's own answers "
            "serve."
        ) from error
