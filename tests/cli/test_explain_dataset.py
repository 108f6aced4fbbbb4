"""explain with a folder or a table; report and evaluate take what it wrote."""

import json

import numpy as np
import pytest
from PIL import Image

from saliencykit.cli.explain_dataset import is_dataset
from saliencykit.core.errors import InputError
from tests.helpers import table_rows


@pytest.fixture
def call(tmp_path, command):
    """Run the command line in a folder with images; returns exit code, stdout, stderr."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(3):
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(
            tmp_path / "photos" / f"{i}.png"
        )
    (tmp_path / "photos" / "bad.png").write_bytes(b"nothing")
    return command


def test_a_folder_is_explained_reported_and_evaluated(call, tmp_path):
    code, out, err = call("explain", "photos", "--output", "run", "--overlays", "1")
    assert code == 0, err
    assert "3 of 4 images explained" in out
    assert "no map for bad.png: 'photos/bad.png' is not an image" in out
    assert "4 of 4 images" in err
    assert len(table_rows(tmp_path / "run" / "table.csv")) == 4
    assert len(list((tmp_path / "run").rglob("*.png"))) == 1
    code, out, _ = call("report", "run")
    assert code == 0
    assert "1 of the images" in (tmp_path / "run" / "report.html").read_text()
    options = ["--metric", "saliency-score", "--no-baselines", "--output", "scored", "--json"]
    code, out, err = call("evaluate", "--data", "photos", "--masker", "kept=stored:run", *options)
    assert code == 0, err
    lines = {line["score"]: line for line in json.loads(out)["table"]}
    assert lines["saliency-score/score"]["n"] == 3
    code, out, err = call("explain", "photos", "--output", "run", "--seed", "1")
    assert code == 2
    assert "seed: 0 in the directory, 1 in this call" in err
    code, out, err = call("explain", "photos/0.png", "--output", "run")
    assert code == 2
    assert "has the explanations of a data set" in err


def test_a_csv_file_is_explained_with_options_as_json(call, tmp_path):
    (tmp_path / "some.csv").write_text(
        "path,label\nphotos/0.png,3\nphotos/1.png,tabby\nphotos/2.png,nobody\n"
    )
    options = [
        "--masker",
        "center-box",
        "--no-verify",
        "--map-dtype",
        "float16",
        "--batch-size",
        "2",
        "--num-workers",
        "1",
        "--json",
    ]
    code, out, err = call("explain", "some.csv", "--output", "run", *options)
    assert code == 0, err
    facts = json.loads(out)
    assert (facts["images"], facts["explained"], facts["means"]["kept"]) == (3, 2, None)
    assert list(facts["reasons"].values()) == [1]
    (block,) = (tmp_path / "run" / "blocks").glob("*.jsonl")
    rows = [json.loads(line) for line in block.read_text().splitlines()]
    assert rows[0]["label"] == 3
    code, out, err = call(
        "explain",
        "some.csv",
        "--output",
        "run",
        "--no-resume",
        "--label",
        "top",
        "--masker",
        "center-box",
        "--max-images",
        "2",
    )
    assert code == 0, err
    assert "2 of 2 images explained" in out


def test_data_sets_are_recognized_by_their_names(tmp_path):
    folder, table = str(tmp_path), "labels.CSV"
    assert is_dataset([folder])
    assert is_dataset([table])
    assert is_dataset(["coco:photos,annotations=a.json"])
    assert not is_dataset(None)
    assert not is_dataset(["a.png", "b.png"])
    with pytest.raises(InputError, match="must be the only argument"):
        is_dataset(["a.png", table])


def test_a_folder_of_damaged_images_exits_with_code_3(command, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"no image")
    code, out, err = command("explain", "photos", "--output", "run")
    assert code == 3
    assert "0 of 1 images explained" in out
    assert "No image could be explained" in err
    code, out, err = command("explain", "photos", "--output", "run", "--json")
    assert code == 3
    assert json.loads(out)["explained"] == 0
