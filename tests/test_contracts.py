"""Every registered name against its contract suite: new entries are tested without a new test."""

import pytest
import torch

from saliencykit import testing
from saliencykit.core.errors import InputError
from saliencykit.core.masker import TrainedMaskerFactory
from saliencykit.registry.coerce import create
from saliencykit.registry.manager import KINDS, registry
from saliencykit.testing import check_masker

# what to write instead of the bare name: nothing is downloaded, and few steps are enough for a
# contract
QUICK = {
    "saliencykit/timm": "timm:test_resnet,pretrained=false,num_classes=7",
    "saliencykit/torchvision": "torchvision:shufflenet_v2_x0_5,weights=none,num_classes=7,size=64",
    "saliencykit/iterative": "iterative:steps=1,areas=(0.2,0.2)",
    "saliencykit/meaningful-perturbation": "meaningful-perturbation:steps=2",
    "saliencykit/extremal-perturbation": "extremal-perturbation:steps=2",
    "saliencykit/rise": "rise:samples=20",
    "saliencykit/integrated-gradients": "integrated-gradients:steps=5",
    "saliencykit/smoothgrad": "smoothgrad:samples=9",
    "saliencykit/held-out-area-curves": "held-out-area-curves:areas=(0.2,)",
    "saliencykit/area-curves": "area-curves:areas=(0.1,0.3)",
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in KINDS for name in registry().names(kind)]
)
def test_every_registered_name_keeps_its_contract(kind, name):
    if isinstance(registry().names(kind)[name], TrainedMaskerFactory):
        pytest.skip("a trained masker is checked on the model that it was trained for")
    if name in ("saliencykit/ground-truth", "saliencykit/stored"):
        pytest.skip(
            "it knows the images of a person's boxes, or of a run: "
            "tests/maskers/test_{baselines,stored}.py run the suite on such"
        )
    if name == "saliencykit/on-surrogate":
        pytest.skip(
            "it needs a surrogate: tests/maskers/test_on_surrogate.py runs the suite on one"
        )
    if name == "saliencykit/transformers":
        pytest.skip(
            "it needs a saved model: tests/black_boxes/test_transformers.py runs the suite on one"
        )
    getattr(testing, f"check_{kind}")(_created(kind, name))


def _created(kind, name):
    """The thing by its bare name; what an installed plugin cannot make without a file of the user's
    is skipped.
    """
    try:
        return create(kind, QUICK.get(name, name))
    except InputError as error:
        if name.startswith("saliencykit/"):
            raise
        pytest.skip(f"{name} needs more than its name: {error}")


TRAINED = {
    name: factory
    for name, factory in registry().names("masker").items()
    if isinstance(factory, TrainedMaskerFactory)
}


@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_masker_fits_the_black_box_of_its_name_and_keeps_its_contract(name):
    """A trained masker carries the full name of the box that it was made for; one without such a
    box must still load.
    """
    factory = TRAINED[name]
    assert factory.metadata["validation"]["passed"]
    if name not in registry().names("black_box"):
        factory()
        return
    black_box = _created("black_box", name)
    assert factory.fits(black_box)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, *black_box.input_size, generator=generator)
    check_masker(factory().for_black_box(black_box), black_box=black_box, images=images)


def test_every_kind_has_entries():
    assert all(registry().names(kind) for kind in KINDS)


def test_no_installed_plugin_is_broken():
    assert [
        (r.name, r.failure)
        for r in registry().plugins
        if r.failure and "SALIENCYKIT_DISABLE" not in r.failure
    ] == []


def test_quick_settings_are_for_registered_names():
    known = {name for kind in KINDS for name in registry().names(kind)}
    assert set(QUICK) <= known
