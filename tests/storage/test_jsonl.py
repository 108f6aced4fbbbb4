import pytest

from saliencykit.core.errors import InputError
from saliencykit.storage.jsonl import append_lines, typed_lines, write_lines


def test_lines_are_appended_after_an_incomplete_one(tmp_path):
    path = tmp_path / "rows"
    append_lines(path, ['{"a": 1}', '{"a": 2}'])
    path.write_bytes(path.read_bytes()[:-4])
    append_lines(path, ['{"a": 3}'])
    assert [data["a"] for data in typed_lines(path, dict)] == [1, 3]
    assert list(typed_lines(tmp_path / "none", dict)) == []


def test_what_is_no_row_is_left_out(tmp_path):
    write_lines(tmp_path / "rows", ["3", '{"a": "x"}', '{"a": 1}', '{"a":'])
    assert list(typed_lines(tmp_path / "rows", dict[str, int])) == [{"a": 1}]


def test_lines_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        list(typed_lines(tmp_path, dict))
