"""LoadedImage: one image of a data set, ready for the model."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from torch import Tensor

from saliencykit.core.geometry import Geometry
from saliencykit.core.types import Images, Mask

if TYPE_CHECKING:
    from PIL.Image import Image


@final
@dataclass(frozen=True)
class LoadedImage:
    """One image ready for the model, or why it is not.

    Attributes:
        index: Its position in the data set, from 0.
        name: Its name in the data set, unique.
        image: (1, C, H, W) on the CPU; None if it failed.
        label: The class that the data set gives; None if it gives none.
        boxes: (n, 4) x0, y0, x1, y1 in pixels of `image`; None where the data set has no boxes.
        geometry: Where `image` lies in the source image; None for tensors.
        source_image: The source image, if it was to be kept.
        inside: (1, 1, H, W) in [0, 1], 1 where the evidence should be; None where that is unknown.
        failure: Why it cannot be used; None if all is well.
        file_key: Of its file, see `data.file_key`; None for what is not a file.
    """

    index: int
    name: str
    image: Images | None = None
    label: int | None = None
    boxes: Tensor | None = None
    geometry: Geometry | None = None
    source_image: "Image | None" = None
    inside: Mask | None = None
    failure: str | None = None
    file_key: str | None = None
