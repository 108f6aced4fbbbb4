import pytest

from saliencykit.core.errors import InputError
from saliencykit.evaluation.run_directory import RunDirectory, file_names
from saliencykit.evaluation.score_rows import Row

SETTINGS = {
    "format": 1,
    "model": {},
    "maskers": {"b": "B()", "a": "A()"},
    "metrics": {},
    "seed": 0,
    "data": "x",
    "versions": {"torch": "1"},
}


def test_file_names_are_safe_and_unique():
    names = file_names(["rise", "RISE", "a/b", "a:b", "..", "", "x" * 300, "ü"])
    assert len({name.lower() for name in names.values()}) == 8
    assert all(
        0 < len(name) <= 84 and not name.startswith(".") and name.isascii()
        for name in names.values()
    )
    assert names["rise"] == "rise"


def test_rows_of_several_processes_are_merged_in_order(tmp_path):
    run = RunDirectory(tmp_path)
    run.begin(SETTINGS)
    part = [Row(sample="1", index=1, masker="b"), Row(sample="0", index=0, masker="a")]
    run.write(part[:1], 1)
    run.write(part, 1)
    run.write([Row(sample="10", index=10, masker="a"), Row(sample="0", index=0, masker="b")], 0)
    names = ["rows-0-0.jsonl", "rows-1-0.jsonl", "rows-1-1.jsonl"]
    assert [path.name for path in sorted(tmp_path.glob("rows*"))] == names
    wanted = [(0, "b"), (0, "a"), (1, "b"), (10, "a")]
    assert [row.key for row in run.rows()] == wanted
    run.merge()
    assert [row.key for row in run.rows()] == wanted
    assert [path.name for path in sorted(tmp_path.glob("rows*"))] == ["rows.jsonl"]


def test_settings_that_differ_are_named_in_the_error(tmp_path):
    run = RunDirectory(tmp_path)
    run.begin(SETTINGS)
    run.begin(SETTINGS | {"command": "another"})
    with pytest.raises(
        InputError,
        match=r"seed: 0 in the directory, 3 in this call; "
        r"maskers \(a: A\(\) in the directory, A\(x=1\) in this call\)",
    ):
        run.begin(SETTINGS | {"seed": 3, "maskers": {"b": "B()", "a": "A(x=1)", "c": "C()"}})
    with pytest.warns(UserWarning, match="was started with"):
        run.begin(SETTINGS | {"versions": {"torch": "2"}})
    run.clear()
    run.begin(SETTINGS | {"seed": 3})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no evaluation in"),
        ("{", "is not JSON"),
        ('{"format": 9}', "format 9"),
        ("[]", "expected `object`, got `array`"),
        ('{"format": 1}', "missing required field `maskers`"),
        ('{"format": 1, "maskers": [], "metrics": 3}', "expected `object`, got `array` in maskers"),
    ],
)
def test_a_directory_without_an_evaluation_is_refused(tmp_path, text, words):
    if text is not None:
        (tmp_path / "settings.json").write_text(text)
    with pytest.raises(InputError, match=words):
        RunDirectory(tmp_path).settings()


def test_rows_without_settings_are_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(InputError, match="contains rows but no settings"):
        RunDirectory(tmp_path).begin(SETTINGS)
