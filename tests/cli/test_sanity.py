"""The command sanity, as a user meets it."""

import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

from saliencykit.cli.sanity import sanity_bar, sanity_table
from saliencykit.sanity import sanity_checks
from saliencykit.testing.black_boxes import PlantedEvidence


@pytest.fixture
def folder(tmp_path, command):
    Path("photos/any").mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for i in range(22):
        pixels = torch.randint(256, (4, 6, 3), generator=generator, dtype=torch.uint8).numpy()
        Image.fromarray(pixels).resize((90, 60)).save(f"photos/any/{i}.png")
    Path("photos/damaged.png").write_bytes(b"nothing")
    return tmp_path


def test_all_checks_of_the_embedded_classifier(folder, command):
    args = (
        "--data",
        "photos",
        "--masker",
        "grad-cam",
        "--check",
        "wrong-label",
        "--check",
        "randomised-box",
        "--output",
        "s.json",
    )
    code, out, err = command("sanity-check", *args)
    assert code == 0, err
    assert "grad-cam on 22 pictures" in out
    for words in (
        "wrong-label",
        "randomised-box",
        "ratio of the areas",
        "with the model's head randomised",
        "passes if",
    ):
        assert words in out
    assert "1 picture could not be used: 'photos/damaged.png' is not a picture" in out
    assert "s.json written in" in out
    assert "own class: 22 of 22" in err
    facts = json.loads(Path("s.json").read_text())
    assert facts["found"]["wrong-label"]["ratio"]["n"] == 22


def test_the_models_own_masker_and_json(folder, command):
    code, out, err = command(
        "sanity-check", "--data", "photos", "--check", "wrong-label", "--check", "encoding", "--json"
    )
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts["masker"] == "the model's own masker"
    assert facts["found"]["wrong-label"]["passed"] is True
    assert facts["found"]["encoding"]["other"]["accuracy"]["n"] == 22


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--data", "nowhere"), "nowhere"),
        (("--data", "photos", "--check", "wrong-lable"), "no sanity check is called 'wrong-lable'"),
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
                "encoding",
                "--masker",
                "center-box",
            ),
            "takes 20 or more",
        ),
        (("--data", "photos", "--output", "photos"), "--output is a file"),
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


def test_a_table_says_what_was_left_out():
    black_box = PlantedEvidence()
    images, _ = black_box.examples(24, generator=torch.Generator().manual_seed(0))
    to = Console(record=True, width=120, file=io.StringIO())
    sanity_table(sanity_checks(black_box, "center-box", images), to)
    text = to.export_text()
    assert "FAIL" in text
    assert "own class read from the mask" in text
    assert "randomised-box was left out: PlantedEvidence shows no torch weights" in text


def test_the_bar_goes_on_to_the_next_thing():
    to = Console(record=True, width=80, file=io.StringIO())
    with sanity_bar(to) as on_progress:
        for what in ("one", "two"):
            for done in (1, 2):
                on_progress(what, done, 2)
    assert to.export_text().splitlines() == ["one: 2 of 2", "two: 2 of 2"]
