"""Every kind of model beside five maskers: right, or one line with the way out; none misleads."""

import re
import warnings

import pytest
import torch

from saliencykit import explain
from saliencykit.core.errors import SaliencyKitError
from tests.model_kinds import KINDS, LABEL, PLACE, Case, image

MASKERS = ("cam", "gradient", "iterative:steps=15", "occlusion", "rise:samples=400")
# kinds that take long to import or to build, or are read as "transformers ViT" and "CLIP" are
LONG = (
    *("lightning", "compiled", "exported", "torchvision", "timm", "open_clip", "int8 static"),
    *(f"transformers {name}" for name in ("DINOv2", "Swin", "BEiT", "ConvNeXt", "multi-label")),
    *("SigLIP", "detection of DETR"),
)
WAY_OUT = re.compile(r"\b(write|use|give|explain|load|return|check|run|say|wrap|name)\b", re.I)


def check(case: Case, masker: str) -> None:
    shown = image() if case.image is None else case.image
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            answer = explain(case.model, shown, case.label, masker=masker, **case.options)
        except SaliencyKitError as error:
            line = str(error)
            assert "\n" not in line
            assert WAY_OUT.search(line), line
            assert re.search(case.refused, line), line
            # every model can be queried, but some have no gradients or no head that CAM could read
            needed = ("occlusion", "rise") if not case.refused else ()
            assert not masker.startswith(needed or ("nothing",)), line
            return
    assert not case.refused, f"{masker} answered: {answer}"
    said = " ".join(str(each.message) for each in caught)
    assert case.warns in said
    assert torch.isfinite(answer.mask).all()
    label = int(answer.labels)
    if isinstance(case.label, str):
        assert answer.label_names == (case.label,)
    if case.logits is not None:
        torch.testing.assert_close(
            answer.logits, case.logits().detach().float(), rtol=1e-3, atol=1e-4
        )
    if case.planted:
        assert label == (LABEL if not isinstance(case.label, int) else case.label)
        heat = answer.mask[0, 0].clone()
        inside = heat[PLACE].mean()
        heat[PLACE] = 0
        outside = heat.sum() / (heat.numel() - 64)
        assert inside > 0.2
        assert inside > 2 * outside, f"{masker}: {inside:.3f} inside and {outside:.3f} outside"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith(LONG)])
def test_every_kind_of_model_is_explained_or_refused_in_one_line(kind: str) -> None:
    """One masker each; all five with -m slow."""
    number = list(KINDS).index(kind)
    check(KINDS[kind](), MASKERS[number % len(MASKERS)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_with_every_masker(kind: str) -> None:
    case = KINDS[kind]()
    for masker in MASKERS:
        check(case, masker)


def test_the_table_is_long() -> None:
    assert len(KINDS) >= 60
