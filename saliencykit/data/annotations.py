"""Boxes that stand beside the pictures: XML files in Pascal VOC's form, and the table of ImageNet's
localisation challenge.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TypeAlias, final

import torch
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.data.csv_table import table_rows
from saliencykit.data.label_lookup import class_index
from saliencykit.data.record import Record


@final
@dataclass(frozen=True)
class Thing:
    """One annotated object: its class as the data set writes it, and x0, y0, x1, y1 in pixels, x1
    and y1 exclusive.
    """

    label: str
    bbox: tuple[float, float, float, float]


Annotations: TypeAlias = Callable[[str], "Sequence[Thing] | None"]
"""From a picture's name to the objects in it; None where nothing is known of the picture."""


def read_annotations(path: Path) -> Annotations:
    """The objects in pictures, looked up by the pictures' names.

    Args:
        path: A folder of XML files called like the pictures, in folders of the same names or all in
            one; or a CSV file with the columns `ImageId` and `PredictionString`, as
            `LOC_val_solution.csv` has them.

    Raises:
        InputError: It is neither.
    """
    if path.is_dir():
        return lambda name: _beside(path, name)
    if path.suffix.lower() == ".csv" and path.is_file():
        return _loc_solution(path)
    raise InputError(
        f"boxes={str(path)!r} is neither a folder of XML files nor a file like "
        "LOC_val_solution.csv."
    )


def xml_things(path: Path) -> list[Thing]:
    """The objects of one XML file of Pascal VOC's form.

    Pascal VOC counts pixels from 1 and ILSVRC, which its files say they are of, from 0; the last
    pixel belongs to the box in both.

    Args:
        path: The file.

    Raises:
        InputError: The file cannot be read.
    """
    from xml.etree.ElementTree import ParseError, parse

    from torchvision.datasets import VOCDetection

    try:
        said = VOCDetection.parse_voc_xml(parse(path).getroot())["annotation"]
        first = 0 if str((said.get("source") or {}).get("database", "")).startswith("ILSVRC") else 1
        things = []
        for thing in said.get("object", []):
            x0, y0, x1, y1 = (
                float(thing["bndbox"][side]) - first for side in ("xmin", "ymin", "xmax", "ymax")
            )
            things.append(Thing(thing["name"], (x0, y0, x1 + 1, y1 + 1)))
    except (ParseError, KeyError, ValueError, TypeError, OSError) as error:
        raise InputError(
            f"{str(path)!r} is no annotation of Pascal VOC's form: {type(error).__name__} {error}."
        ) from error
    return things


def annotated(
    entry: Record,
    things: "Sequence[Thing] | None",
    box: BlackBox,
    classes: Mapping[str, int] | None,
) -> Iterator[Record]:
    """An entry with the boxes of the objects of its class; one per class of the objects where the
    entry has no class itself.

    Where nothing is known of the picture, or it has no object of the class, there are no boxes (n
    is 0).
    """
    if things is None or (entry.label is None and not things):
        yield replace(entry, boxes=torch.zeros(0, 4))
    elif entry.label is not None:
        wanted = class_index(entry.label, box, classes)
        yield replace(
            entry,
            boxes=_boxes([thing for thing in things if _index(thing, box, classes) == wanted]),
        )
    else:
        names = list(dict.fromkeys(thing.label for thing in things))
        for name in names:
            boxes = _boxes([thing for thing in things if thing.label == name])
            yield replace(
                entry,
                name=entry.name if len(names) == 1 else f"{entry.name}#{name}",
                label=name,
                boxes=boxes,
            )


def _index(thing: Thing, box: BlackBox, classes: Mapping[str, int] | None) -> int | None:
    try:
        return class_index(thing.label, box, classes)
    except InputError:
        return (
            None  # an object of a class that the model does not know is not what it is asked about
        )


def _boxes(things: Sequence[Thing]) -> Tensor:
    return torch.tensor([thing.bbox for thing in things], dtype=torch.float32).reshape(-1, 4)


def _beside(folder: Path, name: str) -> list[Thing] | None:
    inside = PurePosixPath(name).with_suffix(".xml")
    found = [path for path in (folder / inside, folder / inside.name) if path.is_file()]
    return xml_things(found[0]) if found else None


def _loc_solution(path: Path) -> Annotations:
    table: dict[str, list[Thing]] = {}
    with table_rows(path) as rows:
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
                    Thing(label, (float(x0), float(y0), float(x1) + 1, float(y1) + 1))
                    for label, x0, y0, x1, y1 in parts
                ]
            except ValueError as error:
                raise InputError(
                    f"{str(path)!r}, line {rows.line_num}: expected 'class x0 y0 x1 y1' repeated; "
                    f"{error}."
                ) from error
    return lambda name: table.get(PurePosixPath(name).stem)
