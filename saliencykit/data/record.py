"""Entry: one line of a data set, before anything is opened."""

from dataclasses import dataclass
from typing import Any, TypeAlias, final

from torch import Tensor

Label: TypeAlias = int | str
"""A class as data sets write it: its index, its name, or its WordNet id (`n01440764`)."""


@final
@dataclass(frozen=True)
class Record:
    """One picture and one class that is asked about; nothing has been opened yet.

    Attributes:
        name: What the table calls it, unique within the data set: the path inside the folder, say.
        image: What `images.as_images` reads: a path, a PIL picture, an array, a tensor.
        label: The class; None: the model's own top class.
        boxes: (n, 4) x0, y0, x1, y1 of the labelled objects, in pixels of the upright picture, x1
            and y1 exclusive; n may be 0. None where the data set does not say.
        reason: Why it cannot be used, where that is known already.
    """

    name: str
    image: Any
    label: Label | None = None
    boxes: Tensor | None = None
    reason: str | None = None
