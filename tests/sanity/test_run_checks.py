"""All checks in one call."""

import json

import pytest

from saliencykit.core.errors import InputError
from saliencykit.sanity import CHECKS, sanity_checks


def test_all_checks_of_a_sane_masker(maskers, planted, patch_box, tmp_path):
    _, images, _ = planted(24)
    report = sanity_checks(patch_box, "occlusion:window=4,stride=2", images, randomize="weights")
    assert [each.name for each in report.found] == list(CHECKS)
    assert report.found[0].passed
    assert report.found[2].passed
    facts = json.loads(report.to_json(tmp_path / "new" / "sanity.json").read_text())
    assert set(facts["found"]) == set(CHECKS)
    assert facts["found"]["wrong-label"]["passed"] is True
    assert facts["found"]["wrong-label"]["ratio"]["n"] == facts["pictures"] == 24
    assert facts["found"]["encoding"]["rule"]
    assert len(str(report).splitlines()) == 3


def test_a_code_and_a_flat_mask_fail(maskers, planted):
    black_box, images, _ = planted(80)
    code = sanity_checks(black_box, maskers["code"], images)
    assert code.passed is False
    assert [each.passed for each in code.found] == [True, False], (
        "the wrong label alone does not find a code"
    )
    assert list(code.left_out) == ["randomised-box"]
    assert "randomised-box: not made" in str(code)
    flat = sanity_checks(black_box, maskers["flat"], images, checks=["wrong-label"])
    assert flat.passed is False
    assert (
        sanity_checks(black_box, maskers["honest"], images, checks=("encoding", "wrong-label"))
        .found[0]
        .name
        == "wrong-label"
    )


def test_mistakes(maskers, planted):
    black_box, images, _ = planted(8)
    flat = maskers["flat"]
    for arguments, words in (
        ({"checks": "wrong-lable"}, "no sanity check is called 'wrong-lable'"),
        ({"checks": ()}, "no sanity check is named"),
        ({"checks": "encoding"}, "8 pictures"),
        ({"checks": "randomised-box"}, "random_box="),
        ({"batch_size": 0}, "batch_size=0"),
        ({"steps": 0}, "steps=0"),
        ({"seed": 2**63}, "a seed is an integer"),
        ({"randomize": "tail"}, "'head' or 'weights'"),
    ):
        with pytest.raises(InputError, match=words):
            sanity_checks(black_box, flat, images, **arguments)
    with pytest.raises(InputError, match="name one"):
        sanity_checks(black_box, None, images)
    with pytest.raises(InputError, match="1 pictures"):
        sanity_checks(black_box, flat, images[:1])


def test_a_report_that_cannot_be_written(maskers, planted, tmp_path):
    black_box, images, _ = planted(4)
    report = sanity_checks(black_box, maskers["flat"], images, checks="wrong-label")
    with pytest.raises(InputError, match="cannot write"):
        report.to_json(tmp_path)
