"""All checks in one call."""

import json

import pytest

from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.sanity import CHECKS, sanity_checks


def test_a_sane_masker_passes_all_checks(maskers, planted, patch_black_box, tmp_path):
    _, images, _ = planted(24)
    report = sanity_checks(
        patch_black_box, "occlusion:window=4,stride=2", images, randomize="weights"
    )
    assert [each.name for each in report.results] == list(CHECKS)
    assert report.results[0].passed
    assert report.results[2].passed
    facts = json.loads(report.to_json(tmp_path / "new" / "sanity.json").read_text())
    assert set(facts["results"]) == set(CHECKS)
    assert facts["results"]["wrong-label"]["passed"] is True
    assert facts["results"]["wrong-label"]["ratio"]["n"] == facts["num_images"] == 24
    assert facts["results"]["class-leakage"]["rule"]
    assert len(str(report).splitlines()) == 3


def test_a_code_and_a_constant_mask_fail(maskers, planted):
    black_box, images, _ = planted(80)
    code = sanity_checks(black_box, maskers["code"], images)
    assert code.passed is False
    assert [each.passed for each in code.results] == [True, False], (
        "the wrong label alone does not find a code"
    )
    assert list(code.skipped) == ["model-randomization"]
    assert "model-randomization: skipped" in str(code)
    flat = sanity_checks(black_box, maskers["flat"], images[:24], checks=["wrong-label"])
    assert flat.passed is False
    both = ("class-leakage", "wrong-label")
    honest = sanity_checks(black_box, maskers["honest"], images[:24], checks=both)
    assert [each.name for each in honest.results] == ["wrong-label", "class-leakage"]


def test_wrong_arguments_are_refused(maskers, planted):
    black_box, images, _ = planted(8)
    flat = maskers["flat"]
    for arguments, words in (
        ({"checks": "wrong-lable"}, "unknown sanity check 'wrong-lable'"),
        ({"checks": ()}, "no sanity check is named"),
        ({"checks": "class-leakage"}, "8 images"),
        ({"checks": "model-randomization"}, "random_model="),
        ({"batch_size": 0}, "batch_size=0"),
        ({"steps": 0}, "steps=0"),
        ({"seed": 2**63}, "a seed must be an integer"),
        ({"randomize": "tail"}, "'head' or 'weights'"),
    ):
        with pytest.raises(InputError, match=words):
            sanity_checks(black_box, flat, images, **arguments)
    with pytest.raises(InputError, match="name one"):
        sanity_checks(black_box, None, images)
    with pytest.raises(InputError, match="1 images"):
        sanity_checks(black_box, flat, images[:1])


def test_a_report_that_cannot_be_written_is_an_error(maskers, planted, tmp_path):
    black_box, images, _ = planted(4)
    report = sanity_checks(black_box, maskers["flat"], images, checks="wrong-label")
    with pytest.raises(SaliencyKitError, match="cannot be written"):
        report.to_json(tmp_path)
