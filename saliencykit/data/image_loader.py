"""ImageLoader: opens the image of a record, for a model."""

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import final

from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import reason_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Mask
from saliencykit.data.annotations import visible_boxes
from saliencykit.data.decoding_budget import DECODING, reduced
from saliencykit.data.file_key import file_key
from saliencykit.data.image_folder import SUFFIXES
from saliencykit.data.images import ImageBatch, as_images
from saliencykit.data.label_lookup import class_index
from saliencykit.data.loaded_image import LoadedImage
from saliencykit.data.record import Record


@final
@dataclass(frozen=True)
class ImageLoader:
    """Opens images, with their classes, bounding boxes and regions of evidence.

    Args:
        black_box: Prepares the images, and has the classes.
        classes: Class index by name, where the names are not the model's.
        use_labels: Whether to use the labels of the records.
        inside: A folder of images named like the data's, white where the evidence should be.
    """

    black_box: BlackBox
    classes: Mapping[str, int] | None = None
    use_labels: bool = True
    inside: Path | None = None

    def load(self, index: int, record: Record, *, keep_source: bool) -> LoadedImage:
        """The image at the model's size, and its class; what fails is an image with its failure.

        Args:
            index: Its position in the data set.
            record: Of the image.
            keep_source: Also return the image as it was decoded.
        """
        name, record = record.name, record.fetched()
        key = record.file_key or file_key(record.image)
        try:
            if record.failure is not None:
                raise InputError(record.failure)
            label = None
            if self.use_labels and record.label is not None:
                label = class_index(record.label, self.black_box, self.classes)
            with DECODING.block():
                read = as_images(record.image, self.black_box, inputs="raw")
            if len(read) != 1:
                raise InputError(f"{name} is {len(read)} images; expected one.")
            boxes, geometry = record.boxes, read.geometries[0]
            if boxes is not None and geometry is not None:
                boxes = visible_boxes(boxes, geometry)
            source = read.source_images[0] if keep_source else None
            if source is not None:
                source, geometry = reduced(source, geometry)
            inside = self._evidence_region(record, read)
            whole = (read.images, label, boxes, geometry, source, inside)
            return LoadedImage(index, name, *whole, file_key=key)
        except Exception as error:  # the memory is too small, or a model's `prepare` raises
            return LoadedImage(index, name, failure=reason_of(error), file_key=key)

    def _evidence_region(self, record: Record, read: ImageBatch) -> Mask | None:
        """Where the evidence should be, at the model's size: prepared as the image itself is."""
        path = record.inside
        if path is None and self.inside is not None:
            name = PurePosixPath(record.name)
            places = (self.inside / name.with_suffix(""), self.inside / name.stem)
            path = next((each for place in places for each in _images_named(place)), None)
        if path is None or isinstance(path, Tensor):
            return None if path is None else path[None]
        with DECODING.block():
            region = as_images(path, self.black_box, inputs="raw")
        if region.geometries != read.geometries:
            raise InputError(
                f"{path} has another size than {record.name}; a region is an image of the same "
                "size, white where the evidence should be."
            )
        return region.images.mean(1, keepdim=True).clamp(0, 1)


def _images_named(place: Path) -> list[Path]:
    """The files of this name with any suffix of an image."""
    beside = sorted(place.parent.glob(f"{glob.escape(place.name)}.*"))
    return [path for path in beside if path.suffix.lower() in SUFFIXES]
