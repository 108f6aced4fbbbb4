"""The model's class that a data set means by an index, a name or a WordNet id."""

import difflib
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.optional_packages import required
from saliencykit.data.record import Label

_WNID = re.compile(r"n\d{8}")


def class_index(label: Label, black_box: BlackBox, classes: Mapping[str, int] | None = None) -> int:
    """The model's index of a class.

    Args:
        label: An index, a number as text, a name, or a WordNet id (`n01440764`). WordNet ids are
            known for models of the 1000 classes of ImageNet in their usual order (sorted ids).
        black_box: The model.
        classes: The data set's names and their indices. They come first: a name that they have is
            not looked up elsewhere.

    Raises:
        InputError: The model has no such class, or its class names are unknown.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> class_index("2", PlantedEvidence()), class_index("cat", PlantedEvidence(), {"cat": 3})
        (2, 3)
    """
    label = plain_label(label)
    if isinstance(label, str) and classes is not None and label in classes:
        index = classes[label]
    elif isinstance(label, str) and not re.fullmatch(r"\s*-?\d{1,18}\s*", label):
        wnid = label.strip()
        known = _imagenet() if _WNID.fullmatch(wnid) and _num_classes(black_box) == 1000 else {}
        index = known[wnid] if wnid in known else class_index_by_name(label, black_box)
    else:
        index = int(label)
    count = _num_classes(black_box)
    if index < 0 or (count is not None and index >= count):
        last = "" if count is None else count - 1
        raise InputError(f"class {index} is outside 0..{last}, the classes of the model.")
    return index


def plain_label(label: Any) -> int | str:
    """A label of any library as an index or a name: numpy and torch scalars, arrays and tensors
    without axes, members of an IntEnum.

    Args:
        label: Anything; a number that is not whole by its type (2.0) is not an index.

    Raises:
        InputError: It is neither an integer nor a text.

    Example:
        >>> import numpy
        >>> plain_label(numpy.array(3)), plain_label(numpy.str_("cat"))
        (3, 'cat')
    """
    value = label.item() if getattr(label, "shape", None) == () else label
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        advice = ""
        if isinstance(value, float) and value.is_integer():
            advice = f" Write {int(value)}."
        elif isinstance(value, bool):
            advice = " Write 1 for yes, 0 for no."
        raise InputError(
            f"{label!r} is not a class; expected an index (an integer) or a name.{advice}"
        )
    try:
        return int(value.__index__())
    except TypeError as error:  # an array or tensor of several numbers
        raise InputError(
            f"{label!r} is not a class; expected an index (an integer) or a name."
        ) from error


def _num_classes(black_box: BlackBox) -> int | None:
    """None for a model that has not been queried yet."""
    try:
        return black_box.num_classes
    except InputError:
        return None


def class_index_by_name(name: str, black_box: BlackBox) -> int:
    """The index of a class by its name, ignoring case; a class of several synonyms ("tabby, tabby
    cat") has each of them as a name.

    Raises:
        InputError: The class names are unknown, no class has this name, or several have.
    """
    names = black_box.class_names
    if not names:
        raise InputError(
            f"the class names of the model are unknown, so {name!r} cannot be looked up; give the "
            "index, or TorchBlackBox(model, class_names=[...]), --model "
            "timm:NAME,class_names=names.txt."
        )
    known: dict[str, list[int]] = {}
    for index, full in enumerate(names):
        for alias in {full.lower(), *(part.strip().lower() for part in full.split(","))}:
            known.setdefault(alias, []).append(index)
    wanted = name.strip().lower()
    matches = [i for i, full in enumerate(names) if full == name] or known.get(wanted, [])
    if len(matches) == 1:
        return matches[0]
    if matches:
        choices = ", ".join(f"{i} ({names[i]})" for i in matches)
        raise InputError(f"several classes are called {name!r}: {choices}; give the index.")
    similar = [alias for alias in known if wanted in alias.split()]
    similar += difflib.get_close_matches(name.lower(), list(known), n=3, cutoff=0.5)
    similar = list(dict.fromkeys(similar))[:3]
    hint = f" Did you mean {', '.join(map(repr, similar))}?" if similar else ""
    raise InputError(f"no class is called {name!r} among the {len(names)} of the model.{hint}")


@cache
def _imagenet() -> dict[str, int]:
    """WordNet id to index, from timm's list."""
    who = "a WordNet id without classes={'n01440764': 0, ...}"
    info = required("timm.data.imagenet_info", who, "timm")
    names: list[str] = info.ImageNetInfo("imagenet-1k").label_names()
    return {name: index for index, name in enumerate(names)}
