"""Contract suites, docstring examples, and creation by name."""

import doctest
from importlib import import_module

import pytest
from saliencykit_superpixel.flat import Flat
from saliencykit_superpixel.inpaint import Inpaint
from saliencykit_superpixel.lime import Lime
from saliencykit_superpixel.superpixel_rise import SuperpixelRise

from saliencykit import explain
from saliencykit.registry.coerce import create
from saliencykit.testing import check_alternative, check_masker


@pytest.mark.parametrize(
    "part",
    [
        SuperpixelRise(samples=40, segments=9, compactness=100.0),
        Lime(samples=40, segments=9, compactness=100.0),
        Lime(samples=20, segments=6, alternative=Inpaint()),
    ],
)
def test_maskers_keep_the_contract(part):
    check_masker(part)


@pytest.mark.parametrize(
    "part", [Inpaint(), Inpaint(side=8), Inpaint(threshold=1.0), Flat(), Flat(segments=4)]
)
def test_alternatives_keep_the_contract(part):
    check_alternative(part)


@pytest.mark.parametrize(
    "name", ["segments", "ridge", "superpixel_masker", "superpixel_rise", "lime", "flat", "inpaint"]
)
def test_docstring_examples_run(name):
    import torch

    globs = {"torch": torch, "Generator": torch.Generator}
    assert not doctest.testmod(
        import_module(f"saliencykit_superpixel.{name}"), extraglobs=globs
    ).failed


@pytest.mark.parametrize(
    ("kind", "text", "part"),
    [
        (
            "masker",
            "superpixel-rise:samples=100,segments=20",
            SuperpixelRise(samples=100, segments=20),
        ),
        (
            "masker",
            "superpixel/superpixel-rise:alternative=superpixel/inpaint",
            SuperpixelRise(alternative=Inpaint()),
        ),
        (
            "masker",
            "lime:samples=30,alternative=flat:segments=9",
            Lime(samples=30, alternative=Flat(segments=9)),
        ),
        ("alternative", "inpaint:side=32", Inpaint(side=32)),
    ],
)
def test_names_and_options_create_the_part(kind, text, part):
    assert create(kind, text) == part


@pytest.mark.parametrize(
    "masker", ["lime:samples=30,segments=12", "superpixel-rise:samples=30,segments=12"]
)
def test_explain_accepts_the_maskers_by_name(masker):
    from saliencykit.demo import demo_image

    explanation = explain("demo", demo_image(), masker=masker, alternative="inpaint:side=32")
    assert explanation.mask.shape[1] == 1
    assert 0 < float(explanation.area[0]) < 1
    assert float(explanation.kept[0]) > float(explanation.dropped[0])
