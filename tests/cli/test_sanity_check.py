"""The command sanity-check, as a user meets it."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from saliencykit.cli.sanity_check import print_checks
from saliencykit.sanity import CHECKS, sanity_checks
from saliencykit.testing.black_boxes import PlantedEvidence


@pytest.fixture
def folder(request, tmp_path, command):
    """A folder with 6 images, or as many as the test is given, and a damaged one."""
    Path("photos/any").mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for i in range(getattr(request, "param", 6)):
        pixels = torch.randint(256, (4, 6, 3), generator=generator, dtype=torch.uint8).numpy()
        Image.fromarray(pixels).resize((90, 60)).save(f"photos/any/{i}.png")
    Path("photos/damaged.png").write_bytes(b"nothing")
    return tmp_path


def test_checks_are_printed_and_written_as_json(folder, command):
    args = (
        "--data",
        "photos",
        "--masker",
        "grad-cam",
        "--check",
        "wrong-label",
        "--check",
        "model-randomization",
        "--output",
        "s.json",
    )
    code, out, err = command("sanity-check", *args)
    assert code == 0, err
    assert "grad-cam on 6 images" in out
    for words in (
        "wrong-label",
        "model-randomization",
        "ratio of the areas",
        "with the model's head randomized",
        "passes if",
    ):
        assert words in out
    assert "1 image could not be used: 'photos/damaged.png' is not an image" in out
    assert "wrote s.json in" in out
    assert "own class: 6 of 6" in err
    facts = json.loads(Path("s.json").read_text())
    assert facts["results"]["wrong-label"]["ratio"]["n"] == 6


@pytest.mark.slow
@pytest.mark.parametrize("folder", [22], indirect=True)
def test_the_default_is_the_masker_trained_for_the_model(folder, command):
    code, out, err = command(
        "sanity-check",
        "--data",
        "photos",
        "--check",
        "wrong-label",
        "--check",
        "class-leakage",
        "--json",
    )
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts["masker"] == "the model's own masker"
    assert facts["results"]["wrong-label"]["passed"] is True
    assert facts["results"]["class-leakage"]["other"]["accuracy"]["n"] == 22


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--data", "nowhere"), "nowhere"),
        (("--data", "photos", "--check", "wrong-lable"), "unknown sanity check 'wrong-lable'"),
        (("--data", "photos", "--randomize", "tail"), "'head' or 'weights'"),
        (("--data", "photos", "--masker", "rize"), "Did you mean 'rise'"),
        (("--data", "photos", "--masker", "no.safetensors"), "there is no file 'no.safetensors'"),
        (
            (
                "--data",
                "photos",
                "--max-images",
                "4",
                "--check",
                "class-leakage",
                "--masker",
                "center-box",
            ),
            "needs 20 or more",
        ),
        (("--data", "photos", "--output", "photos"), "--output must be a file"),
        (
            ("--data", "photos", "--masker", "center-box", "--output", "photos/any/0.png/s.json"),
            "cannot write to",
        ),
    ],
)
def test_a_mistake_is_one_line_with_exit_code_2(folder, command, args, words):
    code, out, err = command("sanity-check", *args)
    assert code == 2
    assert len(err.splitlines()) == 1, err
    assert words in err
    assert out == ""
    assert {path.name for path in folder.iterdir()} == {"photos"}


def test_the_table_has_verdicts_and_what_was_skipped(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    black_box = PlantedEvidence()
    images, _ = black_box.examples(24, generator=torch.Generator().manual_seed(0))
    print_checks(sanity_checks(black_box, "center-box", images))
    text = capsys.readouterr().out
    assert "FAIL" in text
    assert "own class predicted from the mask" in text
    assert "model-randomization was skipped: PlantedEvidence" in text


def test_the_help_names_every_check(command):
    assert ", ".join(CHECKS) in " ".join(command("sanity-check", "--help")[1].split())
