"""Pascal VOC and COCO as entries, through torchvision's readers: one for each picture and each
class in it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.data.annotations import Thing, annotated, xml_things
from saliencykit.data.record import Record
from saliencykit.registry.spec import parse

if TYPE_CHECKING:
    from torchvision.datasets import CocoDetection, VOCDetection


def from_text(text: str) -> "VOCDetection | CocoDetection":
    """The data set that `voc:FOLDER,year=2012,image_set=val` or `coco:FOLDER,annotations=FILE`
    stands for.

    Raises:
        InputError: It is not there, an option is wrong, or pycocotools is missing.
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
            f"{text!r} does not say where the {error.args[0]} are: coco:FOLDER,annotations=FILE."
        ) from error
    except Exception as error:
        raise InputError(f"{text!r} cannot be opened: {type(error).__name__}: {error}") from error


def detection_entries(
    data: Any, black_box: BlackBox, classes: Mapping[str, int] | None
) -> "Iterator[Record] | None":
    """The entries of torchvision's VOCDetection or CocoDetection, by picture and, within it, by
    class; None for anything else.

    Called `picture.jpg`, or `picture.jpg#class` where a picture has several classes. All objects of
    a class count, difficult ones too; regions that COCO marks as crowds are left out, and so are
    pictures without any object. With `classes`, objects of classes that it does not have are left
    out as well: a model of other classes is asked about those that both have.

    Args:
        data: Any object.
        black_box: Whose class names those of the objects are looked up among.
        classes: The label of each class by its name, in place of the box's own names; None: by
            these.
    """
    from torchvision.datasets import CocoDetection, VOCDetection

    if isinstance(data, VOCDetection):
        return _entries(_voc(data), black_box, classes)
    if isinstance(data, CocoDetection):
        return _entries(_coco(data), black_box, classes)
    return None


def _entries(
    pictures: "Iterator[tuple[Path, list[Thing] | str, str]]",
    black_box: BlackBox,
    classes: Mapping[str, int] | None,
) -> Iterator[Record]:
    for path, things, name in pictures:
        if isinstance(things, str):
            yield Record(name, path, reason=things)
            continue
        known = [thing for thing in things if classes is None or thing.label in classes]
        if known:
            yield from annotated(Record(name, path), known, black_box, classes)


def _voc(data: "VOCDetection") -> "Iterator[tuple[Path, list[Thing] | str, str]]":
    for picture, said in zip(data.images, data.annotations, strict=True):
        path = Path(picture)
        try:
            yield path, xml_things(Path(said)), path.name
        except InputError as error:
            yield path, str(error), path.name


def _coco(data: "CocoDetection") -> "Iterator[tuple[Path, list[Thing] | str, str]]":
    """COCO's boxes are x, y, width and height."""
    names = {
        category["id"]: category["name"] for category in data.coco.loadCats(data.coco.getCatIds())
    }
    for key in data.ids:
        name = data.coco.loadImgs(key)[0]["file_name"]
        things = [
            Thing(names[one["category_id"]], _corners(*one["bbox"]))
            for one in data.coco.loadAnns(data.coco.getAnnIds(key))
            if not one.get("iscrowd")
        ]
        yield Path(data.root) / name, things, name


def _corners(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    return x, y, x + width, y + height
