import json

import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.explanation.dataset_run import ExplanationsDirectory, overlay_path
from saliencykit.storage.explanation_rows import ExplainedRow
from saliencykit.storage.jsonl import append_lines
from saliencykit.storage.map_shards import append_maps, finish_shard
from saliencykit.storage.saved_explanations import FORMAT, VERSION
from tests.helpers import table_rows

MANIFEST = {
    "format": FORMAT,
    "version": VERSION,
    "masker": "rise",
    "seed": 0,
    "max_images": 5,
    "command": "a",
}


def write(folder, rank, indices, shard):
    rows = [ExplainedRow(name=f"{i}.png", index=i, area=i / 10).in_shard(shard) for i in indices]
    append_maps(
        folder.path / f"{shard}.open",
        {row.key: torch.zeros(2, 2, dtype=torch.uint8) for row in rows},
    )
    append_lines(folder.rows_of(rank), [row.line() for row in rows])


def test_rows_of_all_processes_come_together_in_order_once(tmp_path):
    folder = ExplanationsDirectory(tmp_path)
    write(folder, 0, [5, 1], "maps-0-0")
    write(folder, 1, [4, 0, 5], "maps-1-0")
    write(folder, 10, [2], "maps-10-0")
    folder.merge()
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == [0, 1, 2, 4, 5]
    assert lines[-1]["shard"] == "maps-0-0", "the first row of an image is the one that stays"
    assert [path.name for path in tmp_path.glob("rows*")] == ["rows.jsonl"]
    folder.write_table()
    names = [line["name"] for line in table_rows(tmp_path / "table.csv")]
    assert names == [f"{i}.png" for i in (0, 1, 2, 4, 5)]


def test_recovering_finishes_shards_and_drops_what_has_no_map(tmp_path):
    folder = ExplanationsDirectory(tmp_path)
    write(folder, 0, [0, 1], "maps-0-0")
    finish_shard(tmp_path / "maps-0-0.open")
    write(folder, 0, [2], "maps-0-1")
    write(folder, 1, [3], "maps-1-0")
    (tmp_path / "maps-1-0.open").unlink()
    append_lines(folder.rows_of(1), [ExplainedRow(name="bad", index=9, failure="damaged").line()])
    for _ in range(2):
        folder.recover()
        assert folder.known() == {0: "0.png", 1: "1.png", 2: "2.png", 9: "bad"}
        there = ["maps-0-0.safetensors", "maps-0-1.safetensors", "rows.jsonl"]
        assert sorted(path.name for path in tmp_path.iterdir()) == there
    assert (folder.next_shard(0), folder.next_shard(1)) == (2, 0)


def test_a_manifest_takes_more_images_and_nothing_else(tmp_path):
    folder = ExplanationsDirectory(tmp_path)
    folder.describe(MANIFEST)
    folder.describe(MANIFEST | {"max_images": 3, "command": "b"})
    assert json.loads((tmp_path / "manifest.json").read_text()) == MANIFEST
    folder.describe(MANIFEST | {"max_images": None, "command": "b"})
    assert json.loads((tmp_path / "manifest.json").read_text()) == MANIFEST | {
        "max_images": None,
        "command": "a && b",
    }
    with pytest.raises(InputError, match="seed: 0 in the directory, 1 in this call"):
        folder.describe(MANIFEST | {"seed": 1})
    with pytest.warns(UserWarning, match="was started with"):
        folder.describe(MANIFEST | {"versions": {"torch": "9"}})


def test_rows_without_a_manifest_are_not_taken_over(tmp_path):
    folder = ExplanationsDirectory(tmp_path)
    write(folder, 0, [0], "maps-0-0")
    with pytest.raises(InputError, match=r"rows but no manifest.json"):
        folder.describe(MANIFEST)
    (tmp_path / "mine.txt").write_text("keep")
    folder.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_overlays_lie_a_thousand_in_a_folder(tmp_path):
    assert overlay_path(tmp_path, 1234567) == tmp_path / "overlays" / "1234" / "1234567.png"
