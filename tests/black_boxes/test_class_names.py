import json

import pytest

from saliencykit.black_boxes.class_names import check_class_names, read_class_names
from saliencykit.core.errors import InputError


def test_from_files_and_lists(tmp_path):
    (tmp_path / "names.txt").write_text("tench, Tinca tinca\n goldfish \n\n")
    (tmp_path / "names.json").write_text(json.dumps(["a", "b"]))
    assert read_class_names(str(tmp_path / "names.txt")) == ("tench, Tinca tinca", "goldfish")
    assert read_class_names(tmp_path / "names.json") == ("a", "b")
    assert read_class_names(("x",)) == ("x",)
    assert read_class_names(None) is None
    for name in ("nut", "bolt", ".cache"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    (tmp_path / "photos" / "a.txt").touch()
    assert read_class_names(tmp_path / "photos") == ("bolt", "nut"), "as ImageFolder sorts them"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("no.json", '{"a": 1}', "does not contain class names"),
        ("bad.json", "[", "cannot read"),
        ("empty.txt", "", "does not contain class names"),
    ],
)
def test_files_of_another_kind(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        read_class_names(tmp_path / name)


def test_missing_files_and_other_things():
    with pytest.raises(InputError, match=r"cannot read class names from 'nowhere\.txt'"):
        read_class_names("nowhere.txt")
    with pytest.raises(InputError, match="got list"):
        read_class_names([1, 2])


def test_there_are_as_many_as_classes():
    check_class_names(None, 3, "my model")
    check_class_names(("a", "b"), 2, "my model")
    with pytest.raises(InputError, match="my model has 3 classes, and 2 class_names were given"):
        check_class_names(("a", "b"), 3, "my model")
