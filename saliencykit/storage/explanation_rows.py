"""ExplainedRow: what is known of one picture of a data set, as a line of JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, final

_DIGITS = 7  # float32 has no more
_NUMBERS = ("probability", "area", "kept", "dropped", "seconds")


@final
@dataclass(frozen=True, kw_only=True)
class ExplainedRow:
    """One picture of a data set: the class asked about, what the mask is worth, and where its map
    lies.

    The numbers are those of the mask as it was found; the stored map is rounded to the manifest's
    precision.

    Attributes:
        name: What the picture is called in the data set: the path inside the folder, say.
        index: Its place there, counted from 0.
        label: The class asked about; None where the picture could not be read.
        label_name: Its name, where known.
        probability: Of the class on the whole picture, in [0, 1].
        area: Mean of the mask at the size of the model's input, in [0, 1].
        kept: Probability of the class with only the mask kept; None where it was not asked.
        dropped: With the mask replaced.
        seconds: In the networks; of a batch each picture's share.
        size: Height and width of the model's input in pixels.
        picture: The key of the input's pixels (`core.draw.image_keys`), 16 hexadecimal digits.
        shard: The name of the file with the map, without its ending.
        key: The map's name in that file.
        reason: Why there is no map; None if all is well.
    """

    name: str
    index: int
    label: int | None = None
    label_name: str | None = None
    probability: float | None = None
    area: float | None = None
    kept: float | None = None
    dropped: float | None = None
    seconds: float | None = None
    size: tuple[int, int] | None = None
    picture: str | None = None
    shard: str | None = None
    key: str | None = None
    reason: str | None = None

    def line(self) -> str:
        """As JSON, with the digits that float32 has.

        Example:
            >>> ExplainedRow(name="a.png", index=0, reason="it is damaged").line()[:46]
            '{"name":"a.png","index":0,"label":null,"label_'
        """
        data = asdict(self)
        data |= {
            name: None if data[name] is None else float(f"{data[name]:.{_DIGITS}g}")
            for name in _NUMBERS
        }
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False)

    def in_shard(self, shard: str) -> "ExplainedRow":
        """The same, its map in this file."""
        return replace(self, shard=shard, key=str(self.index))

    @staticmethod
    def of(data: Mapping[str, Any]) -> "ExplainedRow":
        """The reverse of `line`; what a newer version wrote beside is left out.

        Raises:
            KeyError, TypeError, ValueError: It is no row.
        """
        known: dict[str, Any] = {name: data.get(name) for name in ExplainedRow.__dataclass_fields__}
        known |= {"name": str(data["name"]), "index": int(data["index"])}
        known |= {name: None if known[name] is None else float(known[name]) for name in _NUMBERS}
        if known["size"] is not None:
            height, width = known["size"]
            known["size"] = (int(height), int(width))
        return ExplainedRow(**known)


def hexadecimal(key: int) -> str:
    """A picture's 64-bit key, which JSON's numbers cannot hold everywhere.

    Example:
        >>> hexadecimal(-1)
        'ffffffffffffffff'
    """
    return f"{key & (2**64 - 1):016x}"
