"""ExplainedRow: the explanation of one image of a data set, as a line of JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, final

from saliencykit.core.verdict import Verdict

_DIGITS = 7  # float32 has no more
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
        image_key: The key of the input's pixels (`core.rng.image_keys`), 16 hexadecimal digits.
        shard: The name of the file with the map, without suffix.
        key: The map's name in that file.
        failure: Why there is no map; None if all is well.
    """

    name: str
    index: int
    label: int | None = None
    label_name: str | None = None
    probability: float | None = None
    area: float | None = None
    kept: float | None = None
    dropped: float | None = None
    verdict: Verdict | None = None
    seconds: float | None = None
    size: tuple[int, int] | None = None
    image_key: str | None = None
    shard: str | None = None
    key: str | None = None
    failure: str | None = None

    def line(self) -> str:
        """The row as one line of JSON, with the digits that float32 has.

        Example:
            >>> ExplainedRow(name="a.png", index=0, failure="it is damaged").line()[:46]
            '{"name":"a.png","index":0,"label":null,"label_'
        """
        data = asdict(self)
        data |= {
            name: None if data[name] is None else float(f"{data[name]:.{_DIGITS}g}")
            for name in _NUMBERS
        }
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False)

    def in_shard(self, shard: str) -> "ExplainedRow":
        """The same row, with its map in this file."""
        return replace(self, shard=shard, key=str(self.index))

    @staticmethod
    def of(data: Mapping[str, Any]) -> "ExplainedRow":
        """The row of a line; fields that a newer version added are ignored.

        Raises:
            KeyError, TypeError, ValueError: The data is not a row.
        """
        known: dict[str, Any] = {name: data.get(name) for name in ExplainedRow.__dataclass_fields__}
        known |= {"name": str(data["name"]), "index": int(data["index"])}
        known |= {name: None if known[name] is None else float(known[name]) for name in _NUMBERS}
        known["verdict"] = None if known["verdict"] is None else Verdict(known["verdict"])
        if known["size"] is not None:
            height, width = known["size"]
            known["size"] = (int(height), int(width))
        return ExplainedRow(**known)


def hexadecimal(key: int) -> str:
    """An image's 64-bit key as text, because not every JSON reader has 64-bit integers.

    Example:
        >>> hexadecimal(-1)
        'ffffffffffffffff'
    """
    return f"{key & (2**64 - 1):016x}"
