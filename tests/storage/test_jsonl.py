import json

import pytest

from saliencykit.core.errors import InputError
from saliencykit.storage.jsonl import append_lines, row_files, rows_of, typed_lines


def test_lines_are_appended_after_an_incomplete_one(tmp_path):
    path = tmp_path / "rows"
    append_lines(path, ['{"a": 1}', '{"a": 2}'])
    path.write_bytes(path.read_bytes()[:-4])
    append_lines(path, ['{"a": 3}'])
    found = list(typed_lines(path, dict))
    assert [data["a"] for _, data in found] == [1, 3]
    for start, data in found:
        assert json.loads(path.read_bytes()[start:].split(b"\n")[0]) == data
    assert list(typed_lines(tmp_path / "none", dict)) == []


def test_files_of_rows_come_in_the_order_of_their_processes(tmp_path):
    for rank in (10, 2, 0):
        append_lines(rows_of(tmp_path, rank), ["{}"])
    assert [path.name for path in row_files(tmp_path)] == [
        "rows.jsonl",
        "rows-2.jsonl",
        "rows-10.jsonl",
    ]


def test_lines_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        list(typed_lines(tmp_path, dict))
