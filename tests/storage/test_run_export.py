"""Exports of a run: the same rows and masks in every format."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from saliencykit import InputError, SavedExplanations, explain_dataset
from saliencykit.cli.main import app
from saliencykit.storage import export_run
from saliencykit.storage.run_export import run_lengths
from saliencykit.testing import PlantedEvidence


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> SavedExplanations:
    """A run of four images, the last of which cannot be explained."""
    images, labels = PlantedEvidence().examples(3, generator=torch.Generator().manual_seed(0))
    data = [*zip(images, labels.tolist(), strict=True), (images[0], 99)]
    folder = tmp_path_factory.mktemp("run")
    return explain_dataset(PlantedEvidence(), data, masker="rise:samples=32", output_dir=folder)


def test_parquet_has_the_rows_and_the_masks(saved: SavedExplanations, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = export_run(saved.folder, "parquet", output=tmp_path / "p")
    table = parquet.read_table(folder).to_pylist()
    assert [row["name"] for row in table] == list(saved.names)
    assert [row["mask"] is None for row in table] == [False, False, False, True]


def test_a_csv_file_is_the_table_of_the_run(saved: SavedExplanations, tmp_path: Path) -> None:
    path = export_run(saved.folder, "csv", output=tmp_path / "t.csv")
    assert path.read_bytes() == (saved.folder / "table.csv").read_bytes()
    with path.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 4


def test_arrays_hold_rows_and_masks_without_pickled_objects(
    saved: SavedExplanations, tmp_path: Path
) -> None:
    with np.load(export_run(saved.folder, "npz", output=tmp_path / "a.npz")) as arrays:
        assert arrays["name"].tolist() == list(saved.names)
        assert np.isnan(arrays["probability"]).tolist() == [False, False, False, True]
        for place, name in enumerate(saved.names[:3]):
            assert np.array_equal(arrays["masks"][place], saved.map(name)[0, 0].numpy())


def test_run_lengths_are_those_of_pycocotools(saved: SavedExplanations, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    path = export_run(saved.folder, "coco-rle", output=tmp_path / "c.json", threshold=0.4)
    results = json.loads(path.read_text())
    assert [each["file_name"] for each in results] == list(saved.names[:3])
    for each in results:
        region = (saved.mask(each["file_name"])[0, 0] >= 0.4).numpy()
        segmentation = coco.frPyObjects(each["segmentation"], *region.shape)
        assert np.array_equal(coco.decode(segmentation), region)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_run_lengths_give_the_region_back(fraction: float) -> None:
    region = torch.rand(5, 7, generator=torch.Generator().manual_seed(0)) < fraction
    counts = run_lengths(region)["counts"]
    values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    assert np.array_equal(values.reshape(7, 5).T, region.numpy())


def test_the_command_exports_and_refuses_in_a_line(saved: SavedExplanations) -> None:
    run = CliRunner().invoke(app, ["export", str(saved.folder), "--to", "csv"])
    assert run.exit_code == 0
    assert (saved.folder / "export.csv").exists()
    for wrong, words in (
        ({"to": "xml"}, "takes 'parquet' or"),
        ({"threshold": 2.0}, "threshold=2.0"),
    ):
        with pytest.raises(InputError, match=words):
            export_run(saved.folder, **({"to": "csv"} | wrong))
