"""Record: one image of a data set, before it is opened."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, final

from torch import Tensor

from saliencykit.core.checks import name_of, reason_of
from saliencykit.core.visible_text import unicode_text

if TYPE_CHECKING:
    from saliencykit.data.archives import Archive

Label: TypeAlias = int | str
"""A class as data sets write it: its index, its name, or its WordNet id (`n01440764`)."""


@final
@dataclass(frozen=True)
class Record:
    """One image and one class to explain; nothing has been opened yet.

    Attributes:
        name: Unique within the data set: the path inside the folder, for example.
        image: What `as_images` reads (a path, a PIL image, an array, a tensor), a `DatasetItem` or
            an `ArchiveImage`.
        label: The class; None for the model's top class.
        boxes: (n, 4) x0, y0, x1, y1 of the labeled objects, in pixels of the upright image, x1 and
            y1 exclusive; n may be 0. None where the data set has no boxes.
        failure: Why the image cannot be used, where that is already known.
        inside: An image file of the same size, white where the evidence should be, or (1, H, W) in
            [0, 1] for an image that is a tensor; None where that is unknown.
        file_key: Of an image in an archive or a listed store, see `data.file_key`.
    """

    name: str
    image: Any
    label: Label | None = None
    boxes: Tensor | None = None
    failure: str | None = None
    inside: Path | Tensor | None = None
    file_key: str | None = None

    def __post_init__(self) -> None:
        """Names and failures become rows of files, which hold Unicode only."""
        object.__setattr__(self, "name", unicode_text(self.name))
        if self.failure is not None:
            object.__setattr__(self, "failure", unicode_text(self.failure))

    def fetched(self) -> "Record":
        """The same record with the image itself, read from its data set or archive."""
        if self.failure is not None or not isinstance(self.image, DatasetItem | ArchiveImage):
            return self
        try:
            if isinstance(self.image, ArchiveImage):
                image = self.image.archive.read(self.image.place)
                key = f"{self.image.archive.facts}-{_digest(image)}"
                return replace(self, image=image, file_key=key)
            image, label = split_pair(self.image.items[self.image.index])
        except Exception as error:  # a data set of the user's may raise anything
            return replace(self, failure=reason_of(error))
        return replace(self, image=image, label=label if self.label is None else self.label)


@final
@dataclass(frozen=True)
class DatasetItem:
    """An item of a map-style data set (`torch.utils.data.Dataset`), read when its turn comes.

    Attributes:
        items: The data set; its items are images, or pairs (image, label).
        index: Which item.
    """

    items: Sequence[Any]
    index: int


@final
@dataclass(frozen=True)
class ArchiveImage:
    """An image inside an archive, read when its turn comes.

    Attributes:
        archive: The file.
        place: As the archive's `read` takes it.
    """

    archive: "Archive"
    place: Any


def _digest(image: object) -> str:
    content = image if isinstance(image, bytes) else str(image).encode()
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def unique_names(records: Iterable[Record]) -> Iterator[Record]:
    """The records with names that do not repeat."""
    seen = set[str]()
    for index, record in enumerate(records):
        name = record.name
        while name in seen:
            name = f"{name}#{index}"
        seen.add(name)
        yield record if name == record.name else replace(record, name=name)


def split_pair(item: Any) -> tuple[Any, Label | None]:
    """An item as (image, label): a pair as it is, anything else without a label.

    Example:
        >>> split_pair(("cat.png", 3)), split_pair("cat.png"), split_pair(["cat.png"])
        (('cat.png', 3), ('cat.png', None), ('cat.png', None))
    """
    if not isinstance(item, tuple | list):
        return item, None
    if len(item) not in (1, 2):
        raise TypeError(
            f"{name_of(item)} of {len(item)}; expected an image or a pair (image, label)"
        )
    label: Any = item[1] if len(item) == 2 else None
    if isinstance(label, Tensor) and label.ndim == 0:
        label = label.item()
    return item[0], label
