"""Blocks of rows and masks: whole or not there, in order, in both formats the same."""

import pytest
import torch

from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.core.verdict import Verdict
from saliencykit.storage.blocks import Blocks
from saliencykit.storage.explanation_rows import ExplainedRow


@pytest.fixture(params=["jsonl", "parquet"])
def form(request):
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return request.param


def rows_of(*indices, area=0.1):
    facts = {"label": 1, "label_name": "cat é", "probability": 0.5, "verdict": Verdict.BOTH}
    facts |= {"area": area, "height": 8, "width": 9, "image_key": "f" * 16}
    return [
        ExplainedRow(name=f"{i}.png", index=i, **facts)
        if i % 10 != 9
        else ExplainedRow(name=f"{i}.png", index=i, failure="it is damaged")
        for i in indices
    ]


def write(blocks, form, *indices, dtype=torch.uint8, **facts):
    rows = rows_of(*indices, **facts)
    masks = {r.index: torch.full((2, 3), r.index % 2, dtype=dtype) for r in rows if not r.failure}
    blocks.write(rows, masks, form)


def indices(blocks):
    return [row.index for row in blocks.rows()]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16])
def test_rows_and_masks_survive_a_round_trip(tmp_path, form, dtype):
    blocks = Blocks(tmp_path / "blocks")
    write(blocks, form, 7, 8, 9, dtype=dtype)
    (block,) = blocks
    assert [row.values() for row in block.rows()] == [row.values() for row in rows_of(7, 8, 9)]
    assert [row.block for row in block.rows()] == [block.path.name] * 2 + [None]
    masks = block.masks()
    assert sorted(masks) == [7, 8]
    assert torch.equal(masks[7], torch.ones(2, 3, dtype=dtype))
    assert block.whole_rows() == block.rows()


def test_rows_come_in_the_order_of_the_images_and_once(tmp_path, form):
    blocks = Blocks(tmp_path)
    for part in ((30, 31), (0, 1, 2, 3, 5), (4,), (20, 21), (3, 4, 5, 6)):
        write(blocks, form, *part)
    assert indices(blocks) == [0, 1, 2, 3, 4, 5, 6, 20, 21, 30, 31]


def test_dropped_rows_leave_the_others_and_their_masks(tmp_path, form):
    blocks = Blocks(tmp_path)
    write(blocks, form, *range(5))
    write(blocks, form, 5, 6)
    blocks.drop({0, 3, 5, 6, 99})
    assert indices(blocks) == [1, 2, 4]
    (block,) = blocks
    assert (block.first, block.last, sorted(block.masks())) == (1, 4, [1, 2, 4])
    assert {path.stem for path in tmp_path.iterdir()} == {"000000001-000000004"}
    write(blocks, form, 3, area=0.9)
    assert [(row.index, row.area) for row in blocks.rows()][2] == (3, 0.9)


def test_a_block_whose_masks_are_lost_is_not_whole(tmp_path):
    blocks = Blocks(tmp_path)
    write(blocks, "jsonl", 8, 9)
    (tmp_path / "000000008-000000009.safetensors").unlink()
    (block,) = blocks
    assert block.whole_rows() == []
    with pytest.raises(InputError, match=r"safetensors cannot be read: No such file"):
        block.masks()


def test_blocks_that_are_not_whole_are_removed_by_the_process_that_writes_them(tmp_path, form):
    blocks = Blocks(tmp_path)
    write(blocks, form, 0, 1)
    write(blocks, form, 2, 3)
    path = next(iter(blocks)).path
    path.write_bytes(path.read_bytes()[:-20])
    (tmp_path / "000000007-000000008.safetensors").write_bytes(b"masks without rows")
    (tmp_path / "mine.safetensors").write_bytes(b"of the user")
    if form == "parquet":
        with pytest.raises(InputError, match=r"001.parquet cannot be read"):
            indices(blocks)
    there = sorted(tmp_path.iterdir())
    blocks.remove_damaged(lambda index: index == 2)
    assert sorted(tmp_path.iterdir()) == there
    blocks.remove_damaged(lambda index: True)
    assert indices(blocks) == [2, 3]
    left = {path.stem for path in tmp_path.iterdir()}
    assert left == {"000000002-000000003", "mine"}


def test_rows_without_masks_are_whole_and_can_be_dropped(tmp_path, form):
    blocks = Blocks(tmp_path)
    write(blocks, form, 9, 19)
    (block,) = blocks
    assert [row.index for row in block.whole_rows()] == [9, 19]
    assert block.masks() == {}
    blocks.drop({9})
    assert indices(blocks) == [19]


def test_names_lead_nowhere_else(tmp_path):
    for name in ("../x.jsonl", "/etc/000000000-000000001.jsonl", "a", ""):
        with pytest.raises(InputError, match="is not the name of a block"):
            Blocks(tmp_path).named(name)
    (tmp_path / "notes.txt").write_text("mine")
    assert list(Blocks(tmp_path)) == list(Blocks(tmp_path / "none")) == []


def test_rows_of_other_images_are_no_rows_of_a_block(tmp_path, form):
    blocks = Blocks(tmp_path)
    write(blocks, form, 5, 6)
    (block,) = blocks
    block.path.rename(block.path.with_name(f"000000006-000000007.{form}"))
    assert indices(blocks) == [6]


def test_a_full_disk_is_one_sentence(tmp_path, form):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SaliencyKitError, match="cannot be written"):
        write(Blocks(tmp_path / "file" / "blocks"), form, 0)


def test_a_parquet_run_is_read_without_us(tmp_path):
    import io

    import numpy as np
    from PIL import Image

    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    write(Blocks(tmp_path), "parquet", 8, 9)
    table = pandas.read_parquet(tmp_path)
    assert table["name"].tolist() == ["8.png", "9.png"]
    mask = Image.open(io.BytesIO(table["mask"][0]))
    assert np.asarray(mask).shape == (2, 3)
    assert (table["mask"][1], table["failure"][1]) == (None, "it is damaged")


def test_a_parquet_run_of_a_version_with_fewer_columns_is_read(tmp_path):
    pyarrow_parquet = pytest.importorskip("pyarrow.parquet")
    blocks = Blocks(tmp_path)
    write(blocks, "parquet", 7, 8)
    (block,) = blocks
    old = pyarrow_parquet.read_table(block.path).drop_columns(["predicted", "predicted_name"])
    pyarrow_parquet.write_table(old, block.path)
    assert indices(blocks) == [7, 8]
