import pytest
import torch

from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.storage.map_shards import (
    ShardWriter,
    append_maps,
    finish_shard,
    packed,
    read_map,
    read_open,
    shard_keys,
    unpacked,
)


def some(first, count=2, side=4):
    return {
        str(i): torch.full((side, side), i, dtype=torch.uint8) for i in range(first, first + count)
    }


def test_precision():
    mask = torch.linspace(0, 1, 1001)
    for precision, close in (("uint8", 1 / 510), ("float16", 1 / 4096)):
        assert float((unpacked(packed(mask, precision)) - mask).abs().max()) <= close + 1e-7
        assert unpacked(packed(torch.tensor([0.0, 1.0]), precision)).tolist() == [0.0, 1.0]


def test_an_open_shard_cut_anywhere_keeps_its_whole_records(tmp_path):
    path = tmp_path / "maps-0-0.open"
    append_maps(path, some(0))
    first = path.stat().st_size
    append_maps(path, some(2))
    whole = path.read_bytes()
    for cut in range(0, len(whole) + 1, 5):
        path.write_bytes(whole[:cut])
        assert len(read_open(path)) == (4 if cut == len(whole) else 2 if cut >= first else 0)
    spoilt = bytearray(whole)
    spoilt[-3] ^= 1
    path.write_bytes(bytes(spoilt))
    assert sorted(read_open(path)) == ["0", "1"]
    assert read_open(tmp_path / "none.open") == {}


def test_a_writer_finishes_full_shards_and_maps_are_read_from_both(tmp_path):
    writer = ShardWriter(tmp_path, 1, 5, most=4)
    names = [writer.add(some(i)) for i in (0, 2, 4)]
    assert names == ["maps-1-5", "maps-1-5", "maps-1-6"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "maps-1-5.safetensors",
        "maps-1-6.open",
    ]
    for name, key in (("maps-1-5", "3"), ("maps-1-6", "5")):
        assert torch.equal(
            read_map(tmp_path, name, key), torch.full((4, 4), int(key), dtype=torch.uint8)
        )
    writer.finish()
    writer.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "maps-1-5.safetensors",
        "maps-1-6.safetensors",
    ]
    assert shard_keys(tmp_path, "maps-1-6") == {"4", "5"}
    assert writer.add({"9": torch.zeros(2, 3, dtype=torch.uint8)}) == "maps-1-7"


def test_only_maps_with_a_row_are_kept_when_a_shard_is_finished(tmp_path):
    append_maps(tmp_path / "maps-0-0.open", some(0, 3))
    finish_shard(tmp_path / "maps-0-0.open", {"1"})
    assert shard_keys(tmp_path, "maps-0-0") == {"1"}
    append_maps(tmp_path / "maps-0-1.open", some(0, 3))
    finish_shard(tmp_path / "maps-0-1.open", set())
    assert [path.name for path in tmp_path.iterdir()] == ["maps-0-0.safetensors"]


def test_missing_damaged_and_unwritable_are_said(tmp_path):
    with pytest.raises(InputError, match=r"lacks maps-0-0.safetensors"):
        read_map(tmp_path, "maps-0-0", "1")
    append_maps(tmp_path / "maps-0-0.open", some(0))
    finish_shard(tmp_path / "maps-0-0.open")
    with pytest.raises(InputError, match="has no map of image 7"):
        read_map(tmp_path, "maps-0-0", "7")
    (tmp_path / "maps-0-0.safetensors").write_bytes(b"nothing")
    assert shard_keys(tmp_path, "maps-0-0") == set()
    with pytest.raises(InputError, match="has no map"):
        read_map(tmp_path, "maps-0-0", "1")
    with pytest.raises(SaliencyKitError, match="cannot be written"):
        append_maps(tmp_path / "maps-0-0.safetensors" / "maps-0-0.open", some(0))
