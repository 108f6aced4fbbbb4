"""The class of a model that a data set means by an index, a name or a WordNet id."""

import re
from collections.abc import Mapping
from functools import cache
from operator import index as as_index

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.data.record import Label
from saliencykit.explanation.explain_images import class_index_by_name

_WNID = re.compile(r"n\d{8}")


def class_index(label: Label, black_box: BlackBox, classes: Mapping[str, int] | None = None) -> int:
    """The model's index of a class.

    Args:
        label: An index, a text that is a number, a name, or a WordNet id (`n01440764`), which is
            known of models of the 1000 classes of ImageNet in their usual order (sorted ids).
        black_box: The model.
        classes: The data set's names and their indices; asked first, and where it knows a name
            nobody else is asked.

    Raises:
        InputError: The model has no such class, or its names are unknown.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> class_index("2", PlantedEvidence()), class_index("cat", PlantedEvidence(), {"cat": 3})
        (2, 3)
    """
    if isinstance(label, str) and classes is not None and label in classes:
        index = classes[label]
    elif isinstance(label, str) and not re.fullmatch(r"\s*-?\d+\s*", label):
        wnid = label.strip()
        known = _imagenet() if _WNID.fullmatch(wnid) and black_box.num_classes == 1000 else {}
        index = known[wnid] if wnid in known else class_index_by_name(label, black_box)
    else:
        try:
            index = int(label) if isinstance(label, str) else as_index(label)
        except TypeError as error:
            raise InputError(
                f"{label!r} is no class; a class is an index, a whole number, or a name."
            ) from error
    if not 0 <= index < black_box.num_classes:
        raise InputError(
            f"class {index} is outside 0..{black_box.num_classes - 1}, the classes of the model."
        )
    return index


@cache
def _imagenet() -> dict[str, int]:
    """WordNet id to index, from timm's list."""
    try:
        from timm.data.imagenet_info import ImageNetInfo
    except ImportError as error:
        raise InputError(
            "WordNet ids are looked up in timm's list: pip install 'saliencykit[timm]', or give "
            "classes={'n01440764': 0, ...}."
        ) from error
    names: list[str] = ImageNetInfo("imagenet-1k").label_names()  # type: ignore[no-untyped-call]
    return {name: index for index, name in enumerate(names)}
