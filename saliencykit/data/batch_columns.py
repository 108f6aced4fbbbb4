"""Batches of the engines that distribute work: columns by name, in the engine's own type."""

from collections.abc import Iterator, Mapping, Sequence
from math import nan
from typing import Any

import numpy as np

from saliencykit.core.errors import InputError
from saliencykit.data.record import Label, Record

_MISSING = {"int64": -1, "double": nan, "string": "", "binary": b""}
"""By Arrow type, the value for none where a column has no nulls: its type must not change."""


def batch_records(batch: Any) -> Iterator[Record]:
    """The images of a batch.

    Args:
        batch: A mapping of columns (Ray Data, `datasets`), a pandas DataFrame, or an Arrow table or
            record batch. `image`: paths, bytes of image files, arrays, PIL images, or structs with
            `bytes` or `path`. Optional: `label`, where None, NaN and empty text are none, and `id`,
            which names the image in messages.

    Raises:
        InputError: It is no batch, or has no column `image`.
    """
    if not (hasattr(batch, "to_pydict") or hasattr(batch, "keys")) or "image" not in _names(batch):
        raise InputError(
            "a batch is a mapping, a DataFrame or an Arrow table with a column 'image'; got "
            f"{type(batch).__name__} with {', '.join(map(str, _names(batch))) or 'no columns'}."
        )
    images = _values(batch, "image")
    given = {name: _values(batch, name) for name in ("label", "id") if name in _names(batch)}
    for row, image in enumerate(images):
        if isinstance(image, Mapping):  # an image of Hugging Face or Spark that is not decoded
            image = image.get("bytes") or image.get("path")
        name = str(given["id"][row]) if "id" in given else str(row)
        yield Record(name, image, _label(given["label"][row]) if "label" in given else None)


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


def _values(batch: Any, name: str) -> list[Any]:
    column = batch.column(name) if hasattr(batch, "to_pydict") else batch[name]
    return column.to_pylist() if hasattr(column, "to_pylist") else list(column)


def _label(value: Any) -> Label | None:
    """A label; a column of integers with gaps has become one of floats."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None if value is None or value == "" or value != value else value
