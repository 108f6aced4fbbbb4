import errno

import pytest

from saliencykit.core.errors import InputError
from saliencykit.video.disk_full_guard import ReserveFile


class Disk:
    """Stands for the file below: takes so many bytes in all, and more when room is given back."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = self.file.write(data[: self.room])  # a nearly full disk takes a part
        self.room -= part
        return part

    def __getattr__(self, name):
        return getattr(self.file, name)


def limited(spool, room, back):
    """The spool on a disk with so much room, and so much more once the ballast is gone."""
    disk = spool._file = Disk(spool._file, room)
    release = spool._release

    def released():
        if spool._reserved is not None:
            disk.room += back
        release()

    spool._release = released
    return spool


def test_what_is_kept_is_in_its_place_and_nothing_else(tmp_path):
    spool = ReserveFile(tmp_path / "a.mp4", 1000)
    assert not (tmp_path / "a.mp4").exists()
    assert spool.write(b"hello") == 5
    spool.seek(0)
    spool.write(b"H")
    assert spool.tell() == 1
    spool.keep()
    assert (tmp_path / "a.mp4").read_bytes() == b"Hello"
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").stat().st_mode & 0o600 == 0o600


def test_what_is_dropped_leaves_what_was_there(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"old")
    spool = ReserveFile(tmp_path / "a.mp4", 1000)
    spool.write(b"new")
    spool.drop()
    assert (tmp_path / "a.mp4").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_full_disk_gives_the_reserved_back_and_loses_nothing(tmp_path):
    spool = limited(ReserveFile(tmp_path / "a.mp4", 100), room=10, back=100)
    spool.write(b"0123456")
    assert not spool.full
    assert spool.write(b"789abcdef") == 9
    assert spool.full
    spool.write(b"the end")
    spool.keep()
    assert (tmp_path / "a.mp4").read_bytes() == b"0123456789abcdefthe end"
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_when_that_is_used_up_too_it_is_an_error(tmp_path):
    spool = limited(ReserveFile(tmp_path / "a.mp4", 4), room=4, back=4)
    with pytest.raises(OSError, match="No space left"):
        spool.write(bytes(100))
    spool.drop()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(InputError, match="choose another directory"):
        ReserveFile(tmp_path / "no" / "a.mp4")
