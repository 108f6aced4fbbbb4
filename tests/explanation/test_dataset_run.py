import json

import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.data.dataset import Dataset
from saliencykit.explanation.dataset_run import ExplanationsDirectory, overlay_path
from saliencykit.runs.distributed import Processes
from saliencykit.runs.division import Division
from saliencykit.storage.explanation_rows import ExplainedRow
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


def write(folder, *indices):
    rows = [ExplainedRow(name=f"{i}.png", index=i, area=i / 10) for i in indices]
    maps = {row.index: torch.zeros(2, 2, dtype=torch.uint8) for row in rows}
    folder.blocks.write(rows, maps, "jsonl")


def test_the_table_has_the_rows_of_all_processes_in_order(tmp_path):
    folder = ExplanationsDirectory(tmp_path)
    for part in ((5,), (1, 2), (4,), (0,)):
        write(folder, *part)
    folder.finish()
    names = [line["name"] for line in table_rows(tmp_path / "table.csv")]
    assert names == [f"{i}.png" for i in (0, 1, 2, 4, 5)]


@pytest.mark.parametrize("processes", [Processes(), Processes(0, 2)])
def test_what_is_not_whole_is_left_out_when_a_run_begins(processes, tmp_path, black_box):
    folder = ExplanationsDirectory(tmp_path)
    folder.describe(MANIFEST)
    write(folder, 0, 1)
    write(folder, 2)
    write(folder, 3)
    (tmp_path / "blocks" / "000000002-000000002.safetensors").unlink()
    (tmp_path / "blocks" / "000000003-000000003.jsonl").unlink()
    images = Dataset.open(torch.zeros(5, 3, 8, 8), black_box)
    for _ in range(2):
        folder.begin(MANIFEST, images, Division(processes, 1, 5))
        assert folder.known() == {0: "0.png", 1: "1.png"}
        there = ["000000000-000000001.jsonl", "000000000-000000001.safetensors"]
        assert sorted(path.name for path in (tmp_path / "blocks").iterdir()) == there


def test_a_shard_leaves_the_blocks_of_others_as_they_are(tmp_path, black_box):
    folder = ExplanationsDirectory(tmp_path)
    folder.describe(MANIFEST | {"batch": 1})
    for index in range(4):
        write(folder, index)
        (tmp_path / "blocks" / f"{index:09}-{index:09}.safetensors").unlink()
    images, shard = Dataset.open(torch.zeros(4, 3, 8, 8), black_box), Processes(1, 2, is_shard=True)
    folder.begin(MANIFEST | {"batch": 1}, images, Division(shard, 1, 4))
    there = [f"{index:09}-{index:09}.jsonl" for index in (0, 2)]
    assert sorted(path.name for path in (tmp_path / "blocks").iterdir()) == there
    assert folder.known() == {}


def test_a_manifest_takes_more_images_and_nothing_else(tmp_path):
    folder = ExplanationsDirectory(tmp_path)
    folder.describe(MANIFEST)
    folder.describe(MANIFEST | {"max_images": 3, "command": "b"})
    assert json.loads((tmp_path / "manifest.json").read_text()) == MANIFEST
    folder.describe(MANIFEST | {"max_images": None, "images": 9, "command": "b"})
    assert json.loads((tmp_path / "manifest.json").read_text()) == MANIFEST | {
        "max_images": None,
        "images": 9,
        "command": "a && b",
    }
    with pytest.raises(InputError, match="seed: 0 in the directory, 1 in this call"):
        folder.describe(MANIFEST | {"seed": 1})
    with pytest.warns(UserWarning, match="was started with"):
        folder.describe(MANIFEST | {"versions": {"torch": "9"}})


def test_rows_without_a_manifest_are_not_taken_over(tmp_path):
    folder = ExplanationsDirectory(tmp_path)
    write(folder, 0)
    with pytest.raises(InputError, match=r"rows but no manifest.json"):
        folder.describe(MANIFEST)
    (tmp_path / "mine.txt").write_text("keep")
    folder.clear()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["mine.txt"]


def test_overlays_lie_a_thousand_in_a_folder(tmp_path):
    assert overlay_path(tmp_path, 1234567) == tmp_path / "overlays" / "1234" / "1234567.png"
