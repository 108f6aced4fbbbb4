"""The cache: what goes in comes out, and damage is only a miss."""

import sqlite3
import threading
import warnings

import numpy as np
import pytest
from saliencykit_http.cache import OutputCache

from saliencykit import InputError


def rows(count, classes=10, seed=0):
    numbers = np.random.default_rng(seed).normal(size=(count, classes))
    return {f"{seed}-{index}".encode(): row for index, row in enumerate(numbers)}


def same(found, kept):
    assert set(found) == set(kept)
    assert all(np.array_equal(found[key], kept[key]) for key in kept)


def test_what_goes_in_comes_out_in_another_process_too(tmp_path):
    kept = rows(1200)
    OutputCache(tmp_path / "a" / "b").keep(kept)
    same(OutputCache(tmp_path / "a" / "b").find([*kept, b"unknown"]), kept)
    assert OutputCache(tmp_path / "a" / "b").find([]) == {}


def test_single_precision_takes_half_the_room(tmp_path):
    cache = OutputCache(tmp_path)
    cache.keep({b"single": np.float32([0.1, 0.2]).astype(float), b"double": np.array([0.1, 0.2])})
    with sqlite3.connect(cache.file) as file:
        assert dict(file.execute("SELECT key, length(row) FROM answers")) == {
            b"single": 9,
            b"double": 17,
        }
    same(
        cache.find([b"single", b"double"]),
        {b"single": np.float32([0.1, 0.2]).astype(float), b"double": np.array([0.1, 0.2])},
    )


def test_notes(tmp_path):
    cache = OutputCache(tmp_path)
    assert cache.note("x") is None
    cache.keep_note("x", "one")
    cache.keep_note("x", "two")
    assert OutputCache(tmp_path).note("x") == "two"


@pytest.mark.parametrize("change", ["row = ?", "sum = ?", "row = 'text', sum = ?"])
def test_a_row_that_was_changed_is_not_there(tmp_path, change):
    cache, kept = OutputCache(tmp_path), rows(3)
    cache.keep(kept)
    with sqlite3.connect(cache.file) as file:
        file.execute(f"UPDATE answers SET {change} WHERE key = ?", [b"\x80\x04K*.", b"0-1"])
    same(cache.find(list(kept)), {key: row for key, row in kept.items() if key != b"0-1"})
    cache.keep(kept)
    same(cache.find(list(kept)), kept)


def test_a_damaged_file_is_renamed_and_a_new_one_is_started(tmp_path):
    cache, kept = OutputCache(tmp_path), rows(300)
    cache.keep(kept)
    whole = cache.file.read_bytes()
    for damaged in (
        b"no database at all, but text" * 99,
        whole[:16] + b"\xff" * (len(whole) - 16),
        whole[: len(whole) // 2],
    ):
        cache.file.write_bytes(damaged)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = OutputCache(tmp_path).find(list(kept))
            OutputCache(tmp_path).keep(kept)
            again = OutputCache(tmp_path).find(list(kept))
        assert all(np.array_equal(found[key], kept[key]) for key in found)
        same(again, kept)
        assert any("is damaged; it is now outputs.damaged" in str(one.message) for one in said)


def test_several_at_once(tmp_path):
    def work(seed):
        for _ in range(5):
            OutputCache(tmp_path).keep(rows(20, seed=seed))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = {key: row for seed in range(6) for key, row in rows(20, seed=seed).items()}
    same(OutputCache(tmp_path).find(list(kept)), kept)


def test_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"the cache '.*file' cannot be used"):
        OutputCache(tmp_path / "file")
    (tmp_path / "outputs.sqlite").mkdir()
    with pytest.raises(InputError, match="cannot be used: unable to open database file"):
        OutputCache(tmp_path)


def test_a_disk_that_is_full_costs_the_cache_only(tmp_path, monkeypatch):
    cache = OutputCache(tmp_path)

    def full():
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(cache, "_open", full)
    with pytest.warns(
        UserWarning, match="outputs could not be written to .*: database or disk is full"
    ):
        cache.keep(rows(2))
