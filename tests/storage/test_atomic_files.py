import json

import pytest

from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.storage.atomic_files import (
    append_lines,
    json_lines,
    remove_unfinished,
    row_files,
    rows_of,
    writable,
    write_beside,
    write_text,
)


def test_lines_behind_half_a_line(tmp_path):
    path = tmp_path / "rows"
    append_lines(path, ['{"a": 1}', '{"a": 2}'])
    path.write_bytes(path.read_bytes()[:-4])
    append_lines(path, ['{"a": 3}'])
    found = list(json_lines(path))
    assert [data["a"] for _, data in found] == [1, 3]
    for start, data in found:
        assert json.loads(path.read_bytes()[start:].split(b"\n")[0]) == data
    assert list(json_lines(tmp_path / "none")) == []


def test_a_file_is_whole_or_as_it_was(tmp_path):
    write_text(tmp_path / "a", "é\n")
    assert (tmp_path / "a").read_bytes() == "é\n".encode()

    def half(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(
        SaliencyKitError, match=r"a cannot be written: No space left on device. What was finished"
    ):
        write_beside(tmp_path / "a", half)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text(encoding="utf-8") == "é\n"
    for write in (lambda path: write_text(path, ""), lambda path: append_lines(path, ["x"])):
        with pytest.raises(SaliencyKitError, match="cannot be written: Not a directory"):
            write(tmp_path / "a" / "b")
    write_text(tmp_path / "new" / "folder" / "b", "text")
    assert (tmp_path / "new" / "folder" / "b").read_text() == "text"
    with pytest.raises(
        SaliencyKitError, match=r"new cannot be written: Is a directory. Choose another file.$"
    ):
        write_text(tmp_path / "new", "", advice="Choose another file.")
    assert not list(tmp_path.glob(".*"))


def test_writable_makes_the_directory_or_says_why_not(tmp_path):
    writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("in the way")
    for place in ("file", "file/below"):
        with pytest.raises(InputError, match=r"cannot write to .*file.*; choose another directory"):
            writable(tmp_path / place)


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
        list(json_lines(tmp_path))


def test_what_a_kill_left_beside_a_file_is_removed_and_nothing_else(tmp_path):
    (tmp_path / "deep").mkdir()
    left = [tmp_path / ".manifest.json.4711", tmp_path / "deep" / ".a.png.12"]
    kept = [
        tmp_path / ".hidden",
        tmp_path / ".notes.txt",
        tmp_path / "deep" / "a.12",
        tmp_path / "manifest.json",
    ]
    for path in left + kept:
        path.write_text("x")
    remove_unfinished(tmp_path)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)
