"""The command calibrate: its file is a masker, and an audit record has its guarantee."""

from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from saliencykit.cli.main import app
from saliencykit.explanation import AuditRecord


def test_its_file_is_a_masker_whose_guarantee_is_printed_and_recorded(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(15):
        noise = np.random.default_rng(number).integers(0, 256, (12, 12, 3), np.uint8)
        Image.fromarray(noise).resize((80, 80)).save(photos / f"{number}.png")
    output, options = str(tmp_path / "certified.json"), ("--keep", "0.5", "--level", "0.5")
    run = CliRunner().invoke
    made = run(app, ["calibrate", "--data", str(photos), "--masker", "center-box", *options,
                     "--output", output])  # fmt: skip
    assert made.exit_code == 0, made.output
    assert "certified: on 50% of images like the 15 of the calibration" in made.output
    folder = tmp_path / "case"
    run(app, ["explain", str(photos / "3.png"), "--masker", output, "--output", str(folder)])
    run(app, ["audit", str(folder)])
    facts = AuditRecord.load(folder).facts
    assert "certified(keep=0.5, level=0.5)" in facts["masker"]
    assert "certified" in facts["certificate"][0] or "no guarantee" in facts["certificate"][0]


def test_a_file_that_does_not_suit_the_masker_is_refused_before_the_work(tmp_path: Path) -> None:
    given = ["calibrate", "--data", str(tmp_path), "--masker", "cam", "--output", "cam.safetensors"]
    refused = CliRunner().invoke(app, given)
    assert "--output must be a file that ends in .json" in str(refused.exception)
