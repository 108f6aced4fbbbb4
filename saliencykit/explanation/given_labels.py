"""Labels as a user gives them to `explain`: one, one per image, or several classes of an image."""

from collections.abc import Mapping, Sequence, Set

import torch
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.data.label_lookup import class_index_by_name, plain_label


def label_lists(label: object, count: int) -> list[Sequence[object]]:
    """The labels of each image; None for the model's top class.

    Args:
        label: What the caller gave.
        count: The number of images.

    Raises:
        InputError: The labels do not fit the images.
    """
    if isinstance(label, Mapping | Set):
        raise InputError(
            f"labels in a {name_of(label)} are not in the order of the images; give one label for "
            "all images, or a list with one per image."
        )
    labels = _as_list(label)
    if labels is None:
        return [[label]] * count
    several = [_as_list(each) for each in labels]
    lists: list[Sequence[object]] = [
        [own] if each is None else each for own, each in zip(labels, several, strict=True)
    ]
    if not all(lists):
        raise InputError("explain got an image without labels; leave label out for the top class.")
    if len(lists) == 1:
        return lists * count
    if len(lists) != count:
        nested = f", or label=[{labels}] for several classes of one image" if count == 1 else ""
        raise InputError(
            f"explain got {len(labels)} labels for {count} images; give one for all or one per "
            f"image{nested}."
        )
    return lists


def _as_list(label: object) -> list[object] | None:
    """The labels in a list, tensor, array or column of a table; None for a single label."""
    if isinstance(label, Tensor) and (label.is_meta or label.layout is not torch.strided):
        raise InputError(
            f"the label is a tensor without plain values ({label.layout}, on {label.device}); give "
            "integers, such as label=2 or label=[2, 5]."
        )
    if hasattr(label, "tolist"):
        label = label.tolist()
    if label is None or isinstance(label, str | bytes) or not hasattr(label, "__len__"):
        return None
    return list(label)  # type: ignore[call-overload, no-any-return]


def label_index(label: object, black_box: BlackBox, row: int) -> int:
    """The model's index of a label.

    Args:
        label: An index or a name.
        black_box: The model.
        row: The number of the image, for messages.

    Raises:
        InputError: The model has no such class.
    """
    try:
        index = plain_label(label)
    except InputError as error:
        raise InputError(f"the label of image {row}, {error}") from error
    if isinstance(index, str):
        return class_index_by_name(index, black_box)
    if not 0 <= index < black_box.num_classes:
        raise InputError(
            f"label {index} of image {row} is outside 0..{black_box.num_classes - 1}, the classes "
            "of the model."
        )
    return index
