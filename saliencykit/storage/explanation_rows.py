"""ExplainedRow: the explanation of one image of a data set, as a line of JSON."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Annotated, TypeAlias, final

from msgspec import Meta

from saliencykit.core.verdict import Verdict
from saliencykit.storage.typed_json import Count, Finite, Size, rounded

ShardName: TypeAlias = Annotated[str, Meta(pattern=r"^maps-[0-9]+-[0-9]+\Z")]  # and no path

_NUMBERS = ("probability", "area", "kept", "dropped", "seconds")


@final
@dataclass(frozen=True, kw_only=True)
class ExplainedRow:
    """The explanation of one image of a data set, and where its map is.

    The numbers are those of the mask at full precision; the stored map is rounded to the manifest's
    precision.

    Attributes:
        name: The image's name in the data set: the path inside the folder, for example.
        index: Its position there, from 0.
        label: The explained class; None if the image could not be read.
        label_name: The name of the class, where known.
        probability: p(class) of the whole image, in [0, 1].
        area: Mean of the mask at the size of the model's input, in [0, 1].
        kept: p(class) with only the masked region visible; None without verification.
        dropped: p(class) with the masked region replaced; None without verification.
        verdict: What both show, see `core.Verdict`; None without verification.
        seconds: Time in the networks, the image's share of its batch.
        size: Height and width of the model's input in pixels.
        file_key: The key of the image's file (`data.file_key`); None for what is not a file.
        image_key: The key of the input's pixels (`core.rng.image_keys`), 16 hexadecimal digits.
        shard: The name of the file with the map, without suffix.
        key: The map's name in that file.
        failure: Why there is no map; None if all is well.
    """

    name: str
    index: Count
    label: Count | None = None
    label_name: str | None = None
    probability: Finite | None = None
    area: Finite | None = None
    kept: Finite | None = None
    dropped: Finite | None = None
    verdict: Verdict | None = None
    seconds: Finite | None = None
    size: Size | None = None
    image_key: str | None = None
    file_key: str | None = None
    shard: ShardName | None = None
    key: str | None = None
    failure: str | None = None

    def line(self) -> str:
        """The row as one line of JSON, with the digits that float32 has.

        Example:
            >>> ExplainedRow(name="a.png", index=0, failure="it is damaged").line()[:46]
            '{"name":"a.png","index":0,"label":null,"label_'
        """
        data = asdict(self)
        data |= {name: rounded(data[name]) for name in _NUMBERS}
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False)

    def in_shard(self, shard: str) -> "ExplainedRow":
        """The same row, with its map in this file."""
        return replace(self, shard=shard, key=str(self.index))


def hexadecimal(key: int) -> str:
    """An image's 64-bit key as text, because not every JSON reader has 64-bit integers.

    Example:
        >>> hexadecimal(-1)
        'ffffffffffffffff'
    """
    return f"{key & (2**64 - 1):016x}"
