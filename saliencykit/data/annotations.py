"""Bounding boxes beside images: Pascal VOC's XML files and ImageNet's localization table."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TypeAlias, final
from xml.etree.ElementTree import parse

import torch
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.geometry import Geometry
from saliencykit.core.regular_file import refuse_special_file
from saliencykit.data.label_lookup import class_index
from saliencykit.data.record import Record
from saliencykit.data.table import csv_rows


@final
@dataclass(frozen=True)
class AnnotatedObject:
    """One annotated object: its class as the data set writes it, and its bounding box x0, y0, x1,
    y1 in pixels, x1 and y1 exclusive.
    """

    label: str
    bbox: tuple[float, float, float, float]


Annotations: TypeAlias = Callable[[str], "Sequence[AnnotatedObject] | None"]
"""From an image's name to the objects in it; None for an image without annotations."""


def read_annotations(path: Path) -> Annotations:
    """Annotated objects, looked up by the images' names.

    Args:
        path: A folder of XML files named like the images, in the same subfolders or all in one; or
            a CSV file with the columns `ImageId` and `PredictionString`, as `LOC_val_solution.csv`.

    Raises:
        InputError: It is neither.
    """
    if path.is_dir():
        return lambda name: _xml_beside(path, name)
    if path.suffix.lower() == ".csv" and path.is_file():
        return _localization_table(path)
    raise InputError(
        f"boxes={str(path)!r} is neither a folder of XML files nor a table like "
        "LOC_val_solution.csv."
    )


def xml_objects(path: Path) -> list[AnnotatedObject]:
    """The objects of one XML file in Pascal VOC's format.

    Pascal VOC counts pixels from 1; ILSVRC, in the same format, from 0. The last pixel belongs to
    the box in both.

    Args:
        path: The file.

    Raises:
        InputError: The file cannot be read.
    """
    from torchvision.datasets import VOCDetection

    refuse_special_file(path)
    try:
        content = VOCDetection.parse_voc_xml(parse(path).getroot())["annotation"]
        database = str((content.get("source") or {}).get("database", ""))
        first = 0 if database.startswith("ILSVRC") else 1
        objects = []
        for each in content.get("object", []):
            x0, y0, x1, y1 = (
                float(each["bndbox"][side]) - first for side in ("xmin", "ymin", "xmax", "ymax")
            )
            objects.append(AnnotatedObject(each["name"], (x0, y0, x1 + 1, y1 + 1)))
    except Exception as error:  # the parser has errors of its own, and XML can be nested deeply
        raise InputError(
            f"{str(path)!r} is not an annotation in Pascal VOC's format: {type(error).__name__} "
            f"{error}."
        ) from error
    return objects


def annotated(
    record: Record,
    objects: "Sequence[AnnotatedObject] | None",
    black_box: BlackBox,
    classes: Mapping[str, int] | None,
) -> Iterator[Record]:
    """A record with the boxes of the objects of its class; a record without a class becomes one per
    class of the objects.

    Without annotations, or without an object of the class, there are no boxes (n is 0).
    """
    if objects is None or (record.label is None and not objects):
        yield replace(record, boxes=torch.zeros(0, 4, dtype=torch.float32, device="cpu"))
    elif record.label is not None:
        wanted = class_index(record.label, black_box, classes)
        same = [each for each in objects if _index(each, black_box, classes) == wanted]
        yield replace(record, boxes=_boxes(same))
    else:
        names = list(dict.fromkeys(each.label for each in objects))
        for name in names:
            boxes = _boxes([each for each in objects if each.label == name])
            unique = record.name if len(names) == 1 else f"{record.name}#{name}"
            yield replace(record, name=unique, label=name, boxes=boxes)


def visible_boxes(boxes: Tensor, geometry: Geometry) -> Tensor:
    """Boxes in pixels of an image as boxes in pixels of the model's input: clipped to the input,
    without those that lie outside of it.

    Args:
        boxes: (n, 4): x0, y0, x1, y1 in pixels of the image, x1 and y1 exclusive.
        geometry: Where the input lies in the image.

    Example:
        >>> geometry = Geometry(source_size=(10, 20), region=(5.0, 0.0, 15.0, 10.0), size=(20, 20))
        >>> boxes = torch.tensor([[0.0, 0.0, 5.0, 9.0], [4.0, 1.0, 6.0, 2.0]])
        >>> visible_boxes(boxes, geometry).tolist()
        [[0.0, 2.0, 2.0, 4.0]]
    """
    height, width = geometry.source_size
    # a padded input: clip to the image, not to the padding
    inside = torch.minimum(boxes.clamp_min(0), boxes.new_tensor([width, height] * 2))
    moved = geometry.bbox_from_source(inside)
    return moved[(moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])]


def _index(
    each: AnnotatedObject, black_box: BlackBox, classes: Mapping[str, int] | None
) -> int | None:
    try:
        return class_index(each.label, black_box, classes)
    except InputError:  # the model does not have the class: the object is not of the label
        return None


def _boxes(objects: Sequence[AnnotatedObject]) -> Tensor:
    return torch.tensor([each.bbox for each in objects], dtype=torch.float32, device="cpu").reshape(
        -1, 4
    )


def _xml_beside(folder: Path, name: str) -> list[AnnotatedObject] | None:
    inside = PurePosixPath(name).with_suffix(".xml")
    files = [path for path in (folder / inside, folder / inside.name) if path.is_file()]
    return xml_objects(files[0]) if files else None


def _localization_table(path: Path) -> Annotations:
    table: dict[str, list[AnnotatedObject]] = {}
    with csv_rows(path) as rows:
        if not {"ImageId", "PredictionString"} <= set(rows.fieldnames or ()):
            raise InputError(
                f"{str(path)!r} has no columns ImageId and PredictionString, as "
                "LOC_val_solution.csv has."
            )
        for row in rows:
            words = (row["PredictionString"] or "").split()
            parts = [words[i : i + 5] for i in range(0, len(words), 5)]
            try:
                table[row["ImageId"]] = [
                    AnnotatedObject(label, (float(x0), float(y0), float(x1) + 1, float(y1) + 1))
                    for label, x0, y0, x1, y1 in parts
                ]
            except ValueError as error:
                raise InputError(
                    f"{str(path)!r}, line {rows.line_num}: expected 'class x0 y0 x1 y1' repeated; "
                    f"{error}."
                ) from error
    return lambda name: table.get(PurePosixPath(name).stem)
