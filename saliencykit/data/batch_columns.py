"""Batches of the engines that distribute work: columns by name, in the engine's own type."""

from collections.abc import Iterator, Mapping, Sequence
from math import nan
from typing import Any

import numpy as np

from saliencykit.core.errors import InputError
from saliencykit.data.record import Label, Record
from saliencykit.data.table import read_boxes

_MISSING = {"int64": -1, "double": nan, "string": "", "binary": b""}
"""By Arrow type, the value for none where a column has no nulls: its type must not change."""


def batch_records(batch: Any) -> Iterator[Record]:
    """The images of a batch.

    Args:
        batch: A mapping of columns (Ray Data, `datasets`), a pandas DataFrame, or an Arrow table or
            record batch. `image`: paths, bytes of image files, arrays, PIL images, or structs with
            `bytes` or `path`. Optional: `label`, where None, NaN and empty text are none; `boxes`,
            bounding boxes in pixels of the image; and `id`, which names the image in messages.

    Raises:
        InputError: It is no batch, or has no column `image`.
    """
    if not (hasattr(batch, "to_pydict") or hasattr(batch, "keys")) or "image" not in _names(batch):
        raise InputError(
            "a batch is a mapping, a DataFrame or an Arrow table with a column 'image'; got "
            f"{type(batch).__name__} with {', '.join(map(str, _names(batch))) or 'no columns'}."
        )
    images = column(batch, "image") or []
    none = [None] * len(images)
    ids = column(batch, "id") or range(len(images))
    columns = (images, ids, column(batch, "label") or none, column(batch, "boxes") or none)
    for image, name, label, boxes in zip(*columns, strict=True):
        read, failure = None, None
        try:
            read = None if boxes is None else read_boxes(boxes)
        except (TypeError, ValueError):
            failure = f"the boxes are {boxes!r}; expected rows of x0, y0, x1, y1."
        yield Record(str(name), undecoded(image), _label(label), read, failure)


def column(batch: Any, name: str) -> list[Any] | None:
    """The values of a column; None where the batch has none of this name."""
    if name not in _names(batch):
        return None
    values = batch.column(name) if hasattr(batch, "to_pydict") else batch[name]
    return values.to_pylist() if hasattr(values, "to_pylist") else list(values)


def undecoded(image: Any) -> Any:
    """Bytes or path of an image of Hugging Face or Spark that is not decoded; others as they are.

    Example:
        >>> undecoded({"bytes": None, "path": "a.png"}), undecoded("b.png")
        ('a.png', 'b.png')
    """
    return (image.get("bytes") or image.get("path")) if isinstance(image, Mapping) else image


def with_columns(batch: Any, columns: Mapping[str, tuple[str, Sequence[Any]]]) -> Any:
    """A batch of the same type with its other columns than `image`, and these.

    Args:
        batch: As for `batch_records`.
        columns: By name the Arrow type and the values; None for none. Arrow has nulls; elsewhere
            none is -1, NaN, "" or b"".

    Example:
        >>> columns = {"area": ("double", [0.25, None]), "failure": ("string", [None, "damaged"])}
        >>> batch = with_columns({"image": ["a.png", "b.png"], "id": [7, 8]}, columns)
        >>> batch["id"], batch["area"].tolist(), batch["failure"].tolist()
        ([7, 8], [0.25, nan], ['', 'damaged'])
    """
    kept = [name for name in _names(batch) if name != "image" and name not in columns]
    if hasattr(batch, "to_pydict"):
        import pyarrow

        new = {n: pyarrow.array(values, kind) for n, (kind, values) in columns.items()}
        return type(batch).from_pydict({name: batch.column(name) for name in kept} | new)
    filled = {name: _filled(kind, values) for name, (kind, values) in columns.items()}
    whole = {name: batch[name] for name in kept} | filled
    return type(batch)(whole, index=batch.index) if hasattr(batch, "iloc") else whole


def _filled(kind: str, values: Sequence[Any]) -> Any:
    """Values as an array of one type."""
    numbers = {"int64": np.int64, "double": np.float64}.get(kind)
    filled = [_MISSING[kind] if value is None else value for value in values]
    # text and bytes of numpy's own types lose their zeros at the end
    array = np.empty(len(filled), dtype=numbers or object)
    array[:] = filled
    return array


def _names(batch: Any) -> list[Any]:
    if hasattr(batch, "to_pydict"):
        return list(batch.schema.names)
    return list(batch) if hasattr(batch, "keys") else []


def _label(value: Any) -> Label | None:
    """A label; a column of integers with gaps has become one of floats."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None if value is None or value == "" or value != value else value
