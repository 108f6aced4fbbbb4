"""The parts keep their contracts, their examples run, and their names are registered."""

import doctest
from importlib import import_module

import pytest
from saliencykit_example.alternative import Shuffled
from saliencykit_example.black_box import MainColor
from saliencykit_example.masker import Peephole
from saliencykit_example.metric import Kept
from saliencykit_example.term import Undecided

from saliencykit.registry import registry
from saliencykit.testing import (
    check_alternative,
    check_black_box,
    check_masker,
    check_metric,
    check_term,
)


def test_black_box():
    check_black_box(MainColor())


def test_alternative():
    check_alternative(Shuffled())


def test_term():
    check_term(Undecided())


def test_masker():
    check_masker(Peephole(cells=3))


def test_metric():
    check_metric(Kept())


@pytest.mark.parametrize("name", ["black_box", "alternative", "term", "masker", "metric"])
def test_the_examples_run_and_the_name_is_known(name):
    assert not doctest.testmod(import_module(f"saliencykit_example.{name}")).failed
    assert any(full.startswith("example/") for full in registry().names(name))
