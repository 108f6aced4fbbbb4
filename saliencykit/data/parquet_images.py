"""ParquetImages: a Parquet file with a column of images, as Hugging Face and others write it."""

import json
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from threading import Lock
from typing import Any, final

from saliencykit.core.errors import InputError
from saliencykit.core.visible_text import first_line
from saliencykit.data.archives import Archive
from saliencykit.data.batch_columns import undecoded
from saliencykit.data.record import ArchiveImage, Record
from saliencykit.data.table import LABELS, PATHS, column_named, path_inside, row_record
from saliencykit.storage.blocks import parquet
from saliencykit.storage.locations import as_os_error, is_remote

_IMAGES = ("image", "img", "jpg", "png", *PATHS)
_NAMES = ("id", "key", "__key__", "name")
_ROWS = 32  # images that are read together
_KEPT = 4  # times as many stay in memory: threads do not come in order


@final
@dataclass(frozen=True)
class ParquetImages(Archive):
    """A Parquet file of images.

    The images are the column `image` (or `img`, `path`, ...): bytes of image files, structs of
    `bytes` and `path`, or paths relative to the file's folder; without such a column, the first one
    of bytes. Optional: `label`, `class` or `wnid`, `boxes`, and `id`, `key` or `name`, which names
    the image.
    """

    def records(self) -> list[Record]:
        """See `Archive.records`."""
        if not is_remote(self.path):
            self.path.open("rb").close()  # pyarrow raises OSError for damage too
        try:
            with _opened(self) as file:
                schema, image = file.schema_arrow, self._column(file)
                names = {name.lower(): name for name in schema.names}
                wanted = ("boxes", *LABELS, *_NAMES)
                some = [names[each] for each in wanted if each in names and names[each] != image]
                rows = file.read(columns=some).to_pylist() if some else []
                rows = rows or [{} for _ in range(file.metadata.num_rows)]
        except InputError:
            raise
        except Exception as error:  # pyarrow has many
            return [self.damaged(0, first_line(error))]
        named, words = column_named(_NAMES, some), _class_names(schema)
        found = []
        for row, values in enumerate(rows):
            name = row if named is None else values.pop(named)
            place = ArchiveImage(self, row)
            for each, texts in words.items():
                if isinstance(number := values.get(each), int) and 0 <= number < len(texts):
                    values[each] = texts[number]
            found.append(row_record(f"{self.name}/{row if name is None else name}", place, values))
        return found

    def read(self, place: Any) -> object:
        """See `Archive.read`."""
        image = undecoded(_stream(self, self.facts).read(place))
        return path_inside(self.path.parent, image) if isinstance(image, str) else image

    def _column(self, file: Any) -> str:
        """The name of the column of images."""
        import pyarrow

        def has_bytes(kind: Any) -> bool:
            if pyarrow.types.is_struct(kind):
                return any(has_bytes(kind.field(i).type) for i in range(kind.num_fields))
            return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))

        schema = file.schema_arrow
        first = next((each.name for each in schema if has_bytes(each.type)), None)
        if (found := column_named(_IMAGES, schema.names) or first) is None:
            raise InputError(
                f"{self.path} has the columns {', '.join(schema.names)}; images are read from "
                "`image`, as bytes, structs of bytes and path, or paths."
            )
        return str(found)


def _class_names(schema: Any) -> dict[str, list[str]]:
    """The class names of columns of integers that Hugging Face writes into the file."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return {
            name: list(map(str, each["names"]))
            for name, each in features.items()
            if isinstance(each, Mapping) and each.get("_type") == "ClassLabel"
        }
    except (TypeError, KeyError, ValueError, AttributeError):  # there are none
        return {}


def _opened(archive: ParquetImages) -> Any:
    """The file; of a remote one parts are read."""
    options = {"pre_buffer": False, "buffer_size": 2**20}
    if not is_remote(archive.path):
        return parquet().ParquetFile(archive.path, **options)
    remote: Any = archive.path
    with as_os_error():
        file = remote.fs.open(remote.path, "rb", block_size=2**22, cache_type="readahead")
    return parquet().ParquetFile(file, **options)


@lru_cache(2)
def _stream(archive: ParquetImages, facts: str) -> "_Stream":
    return _Stream(archive)


class _Stream:
    """The images of a file in their order; a jump begins at the row group."""

    def __init__(self, archive: ParquetImages) -> None:
        self._file, self._lock = _opened(archive), Lock()
        self._column = archive._column(self._file)
        sizes = (
            self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)
        )
        self._starts = [0, *accumulate(sizes)]
        self._kept: deque[tuple[int, Any]] = deque(maxlen=_KEPT)
        self._batches: Iterator[Any] = iter(())
        self._next = -1  # the first row of the next batch

    def read(self, row: int) -> object:
        with self._lock:
            while True:
                for first, images in self._kept:
                    if first <= row < first + len(images):
                        return images[row - first].as_py()
                group = bisect_right(self._starts, row) - 1
                if not self._starts[group] <= self._next <= row:
                    some = range(group, self._file.num_row_groups)
                    self._batches = self._file.iter_batches(_ROWS, some, [self._column])
                    self._next = self._starts[group]
                images = next(self._batches).column(0)
                self._kept.append((self._next, images))
                self._next += len(images)
