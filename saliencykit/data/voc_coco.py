"""Pascal VOC and COCO, read by torchvision: one record per image and class in it."""

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from msgspec import Struct

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.data.annotations import AnnotatedObject, annotated, xml_objects
from saliencykit.data.record import Record
from saliencykit.registry.spec import parse
from saliencykit.storage.typed_json import Finite, typed

_Image: TypeAlias = tuple[Path, list[AnnotatedObject] | str, str]  # path, objects or failure, name


class _Named(Struct):
    id: int
    name: str


class _File(Struct):
    id: int
    file_name: str


class _Annotation(Struct):
    image_id: int
    category_id: int
    bbox: tuple[Finite, Finite, Finite, Finite]
    iscrowd: int = 0


class _Coco(Struct):
    images: tuple[_File, ...]
    annotations: tuple[_Annotation, ...]
    categories: tuple[_Named, ...]


def is_detection_set(items: Any) -> bool:
    """Is it a VOCDetection or CocoDetection of torchvision?"""
    if "torchvision" not in sys.modules:  # two seconds to import
        return False
    from torchvision.datasets import CocoDetection, VOCDetection

    return isinstance(items, VOCDetection | CocoDetection)


def open_detection(text: str) -> Any:
    """The data set of `voc:FOLDER,year=2012,image_set=val` or `coco:FOLDER,annotations=FILE`.

    Raises:
        InputError: It does not exist, an option is wrong, or pycocotools is missing.
    """
    from torchvision.datasets import CocoDetection, VOCDetection

    spec = parse(text)
    if len(spec.values) != 1:
        raise InputError(
            f"{text!r}: write voc:FOLDER,year=2012,image_set=val or coco:FOLDER,annotations=FILE."
        )
    folder, options = Path(spec.values[0]).expanduser(), dict(spec.options)
    try:
        if spec.name == "voc":
            options = {"image_set": "val", **options}
            return VOCDetection(folder, **options)
        return CocoDetection(folder, str(Path(options.pop("annotations")).expanduser()), **options)
    except ImportError as error:
        raise InputError(
            "COCO's annotations are read by pycocotools: pip install pycocotools."
        ) from error
    except KeyError as error:
        raise InputError(
            f"{text!r} lacks {error.args[0]}: write coco:FOLDER,annotations=FILE."
        ) from error
    except Exception as error:
        raise InputError(f"{text!r} cannot be opened: {type(error).__name__}: {error}") from error


def detection_records(
    data: Any,
    black_box: BlackBox,
    classes: Mapping[str, int] | None = None,
    *,
    use_labels: bool = True,
) -> Iterator[Record]:
    """The records of a VOCDetection or CocoDetection, by image and, within an image, by class.

    They are named `image.jpg`, or `image.jpg#class` in an image with several classes. All objects
    of a class count, including difficult ones. COCO's crowd regions and images without objects are
    left out. With `classes`, objects of other classes are left out too: a model with other classes
    is queried for those that both have.

    Args:
        data: A VOCDetection or CocoDetection of torchvision.
        black_box: The model whose class names are searched.
        classes: The model's index by class name, instead of the model's own names; None to use
            these.
        use_labels: False: each image once, without a label.
    """
    for path, objects, name in _coco(data) if hasattr(data, "coco") else _voc(data):
        if isinstance(objects, str):
            yield Record(name, path, failure=objects)
            continue
        known = [each for each in objects if classes is None or each.label in classes]
        if known and not use_labels:
            yield Record(name, path)
        elif known:
            yield from annotated(Record(name, path), known, black_box, classes)


def _voc(data: Any) -> Iterator[_Image]:
    for image, annotation in zip(data.images, data.annotations, strict=True):
        path = Path(image)
        try:
            yield path, xml_objects(Path(annotation)), path.name
        except InputError as error:
            yield path, str(error), path.name


def _coco(data: Any) -> Iterator[_Image]:
    read = typed(data.coco.dataset, _Coco, f"the COCO annotations of {data.root}")
    names = {category.id: category.name for category in read.categories}
    files = {image.id: image.file_name for image in read.images}
    objects: dict[int, list[AnnotatedObject]] = defaultdict(list)
    for one in read.annotations:
        if one.category_id in names and not one.iscrowd:
            found = AnnotatedObject(names[one.category_id], _corners(*one.bbox))
            objects[one.image_id].append(found)
    for key in data.ids:
        if key in files:
            yield Path(data.root) / files[key], objects[key], files[key]


def _corners(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    """COCO's boxes are x, y, width, height."""
    return x, y, x + width, y + height
