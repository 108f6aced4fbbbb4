"""ExplainedRow: the explanation of one image of a data set."""

import json
from dataclasses import asdict, dataclass
from typing import final

from saliencykit.core.verdict import Verdict
from saliencykit.storage.typed_json import Count, Finite, Side, Size, rounded

_COLUMNS = {
    "name": "string", "index": "int64", "label": "int64", "label_name": "string",
    "predicted": "int64", "predicted_name": "string",
    "probability": "double", "kept": "double", "dropped": "double", "area": "double",
    "sufficient_area": "double", "sufficient_probability": "double",
    "destroying_area": "double", "destroying_probability": "double",
    "verdict": "string", "seconds": "double", "height": "int64", "width": "int64",
    "image_key": "string", "file_key": "string", "mask": "binary", "failure": "string",
}  # fmt: skip


@final
@dataclass(frozen=True, kw_only=True)
class ExplainedRow:
    """The explanation of one image of a data set.

    The numbers are those of the mask at full precision; the stored mask is rounded to the
    manifest's precision.

    Attributes:
        name: The image's name in the data set: the path inside the folder, for example.
        index: Its position there, from 0.
        label: The explained class; None if the image could not be read.
        label_name: The name of the class, where known.
        predicted: The model's top class; None where classes are not exclusive.
        predicted_name: Its name, where known.
        probability: p(class) of the whole image, in [0, 1].
        kept: p(class) with only the masked region visible; None without verification.
        dropped: p(class) with the masked region replaced; None without verification.
        area: Mean of the mask at the size of the model's input, in [0, 1].
        sufficient_area: Of the smallest region that is enough, a fraction of the pixels in [0, 1];
            None where it was not searched, or none is enough.
        sufficient_probability: p(class) with only that region visible.
        destroying_area: Of the smallest region whose removal loses the class.
        destroying_probability: p(class) without that region.
        verdict: What `kept` and `dropped` show, see `core.Verdict`; None without verification.
        seconds: Time in the networks, the image's share of its batch.
        height: Of the model's input in pixels.
        width: Of the model's input in pixels.
        image_key: The key of the input's pixels (`core.rng.image_keys`), 16 hexadecimal digits.
        file_key: The key of the image's file (`data.file_key`); None for what is not a file.
        failure: Why there is no mask; None if all is well.
        block: The name of the block that the row was read from; None if it has no mask.
    """

    name: str
    index: Count
    label: Count | None = None
    label_name: str | None = None
    predicted: Count | None = None
    predicted_name: str | None = None
    probability: Finite | None = None
    kept: Finite | None = None
    dropped: Finite | None = None
    area: Finite | None = None
    sufficient_area: Finite | None = None
    sufficient_probability: Finite | None = None
    destroying_area: Finite | None = None
    destroying_probability: Finite | None = None
    verdict: Verdict | None = None
    seconds: Finite | None = None
    height: Side | None = None
    width: Side | None = None
    image_key: str | None = None
    file_key: str | None = None
    failure: str | None = None
    block: str | None = None

    @staticmethod
    def columns() -> dict[str, str]:
        """The columns of a file of rows, with their Arrow types; `mask` has the stored mask."""
        return dict(_COLUMNS)

    @property
    def size(self) -> Size | None:
        """Height and width of the model's input in pixels."""
        return None if self.height is None or self.width is None else (self.height, self.width)

    @property
    def label_text(self) -> str:
        """The explained class in words: its first name, or `class 7`."""
        return _in_words(self.label, self.label_name)

    @property
    def predicted_text(self) -> str:
        """The predicted class in words."""
        return _in_words(self.predicted, self.predicted_name)

    def values(self) -> dict[str, object]:
        """The values by column, without the mask; numbers have the digits of float32."""
        data = asdict(self)
        del data["block"]
        return data | {k: rounded(data[k]) for k, kind in _COLUMNS.items() if kind == "double"}

    def line(self) -> str:
        """The row as one line of JSON.

        Example:
            >>> ExplainedRow(name="a.png", index=0, failure="it is damaged").line()[:46]
            '{"name":"a.png","index":0,"label":null,"label_'
        """
        return json.dumps(self.values(), separators=(",", ":"), ensure_ascii=False)


def _in_words(index: int | None, name: str | None) -> str:
    return name.split(",")[0] if name else f"class {index}"


def hexadecimal(key: int) -> str:
    """An image's 64-bit key as text, because not every JSON reader has 64-bit integers.

    Example:
        >>> hexadecimal(-1)
        'ffffffffffffffff'
    """
    return f"{key & (2**64 - 1):016x}"
