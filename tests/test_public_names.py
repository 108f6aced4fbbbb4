"""The public names of all packages, against a recorded list: changing it is a decision.

`python tests/test_public_names.py` writes the list again.
"""

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import saliencykit

RECORD = Path(__file__).with_name("public_names.txt")
RECORDED = RECORD.read_text(encoding="utf-8").split()


def public_names():
    """Every name that the root or a package below it lists, and what listed modules define."""
    below = pkgutil.walk_packages(saliencykit.__path__, "saliencykit.")
    names = []
    for package in ["saliencykit", *(found.name for found in below if found.ispkg)]:
        module = importlib.import_module(package)
        for attribute in getattr(module, "__all__", ()):
            names.append(f"{package}.{attribute}")
            thing = getattr(module, attribute)
            if inspect.ismodule(thing) and not hasattr(thing, "__path__"):
                names += [f"{names[-1]}.{name}" for name in vars(thing) if defined(thing, name)]
    return sorted(names)


def defined(module, name):
    own = getattr(getattr(module, name), "__module__", None) == module.__name__
    return own and not name.startswith("_")


def test_the_public_names_are_the_recorded_ones():
    assert public_names() == RECORDED


def test_the_public_names_are_there_and_documented():
    for name in RECORDED:
        package, _, attribute = name.rpartition(".")
        thing = getattr(importlib.import_module(package), attribute)
        if inspect.ismodule(thing):
            assert thing.__name__ == name
        elif inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), name


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="No saliencykit attribute expalin"):
        _ = saliencykit.expalin


def test_the_version():
    assert saliencykit.__version__.count(".") == 2
    assert "__version__" in dir(saliencykit)


if __name__ == "__main__":
    RECORD.write_text("".join(f"{name}\n" for name in public_names()), encoding="utf-8")
