import pytest

from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.storage.atomic_files import remove_unfinished, writable, write_beside, write_text
from saliencykit.storage.jsonl import append_lines


def test_a_file_is_whole_or_as_it_was(tmp_path):
    write_text(tmp_path / "a", "é\n")
    assert (tmp_path / "a").read_bytes() == "é\n".encode()

    def half(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(
        SaliencyKitError, match=r"a cannot be written: No space left on device. Finished results"
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


def test_what_a_kill_left_beside_a_file_is_removed_and_nothing_else(tmp_path):
    (tmp_path / "deep").mkdir()
    left = [tmp_path / ".manifest.json.0a1b2c3d-4711", tmp_path / "deep" / ".a.png.00000000-12"]
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
