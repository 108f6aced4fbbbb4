"""The command surrogate, as a user meets it."""

import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

from saliencykit import Surrogate
from saliencykit.cli.surrogate import surrogate_bar, surrogate_table
from saliencykit.surrogate.distillation import SurrogateStep


@pytest.fixture
def folder(tmp_path, command):
    Path("photos").mkdir()
    generator = torch.Generator().manual_seed(0)
    for i in range(10):
        pixels = torch.randint(256, (4, 6, 3), generator=generator, dtype=torch.uint8).numpy()
        Image.fromarray(pixels).resize((90, 60)).save(f"photos/{i}.png")
    return tmp_path


TRAIN = (
    "fit-surrogate",
    "--model",
    "demo",
    "--data",
    "photos",
    "--queries",
    "55",
    "--steps",
    "2",
    "--batch-size",
    "8",
)


def test_from_the_surrogate_to_an_explanation_of_the_model(folder, command):
    code, out, err = command(*TRAIN, "--output", "s.safetensors")
    assert code == 0, err
    assert "10 pictures of 80x80, 2 of them held out; 55 queries" in err
    assert "disagree much" in err
    assert "50% kept" in out
    assert "55 queries; the disagreement is large" in out
    assert (
        "now: saliencykit fit --model s.safetensors --data photos --output masker.safetensors"
        in out
    )
    assert "--model demo --masker on-surrogate:s.safetensors,masker=masker.safetensors" in out
    assert [p.name for p in Path("s-training").iterdir()] == ["answers-000000.safetensors"]
    made = Surrogate.load("s.safetensors")
    assert made.class_names[0] == Surrogate.load("s.safetensors").class_names[0]
    assert made.preprocessing.fit == "pad"
    how = ("--masker", "on-surrogate:s.safetensors,masker=grad-cam", "--json", "--output", "here")
    code, out, err = command("explain", "photos/1.png", "--model", "demo", *how)
    assert code == 0, err
    facts = json.loads(out)
    assert facts["provenance"]["masker"].startswith(
        "OnSurrogate(surrogate=Surrogate(SurrogateNetwork, of TorchBlackBox(DemoNet"
    )
    assert facts["provenance"]["model"].startswith("TorchBlackBox(DemoNet")
    code, out, err = command(
        "explain", "photos/1.png", "--model", "s.safetensors", "--masker", "grad-cam", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["provenance"]["model"].startswith("Surrogate(")
    pytest.importorskip("accelerate")
    train = (
        "--model",
        "s.safetensors",
        "--data",
        "photos",
        "--output",
        "m.safetensors",
        "--steps",
        "2",
        "--batch-size",
        "4",
    )
    code, out, err = command("fit", *train)
    assert code == 0, err
    assert (
        "--model THE-MODEL-ITSELF --masker on-surrogate:s.safetensors,masker=m.safetensors" in out
    )


def test_json_and_a_second_call_from_the_answers(folder, command):
    code, out, err = command(*TRAIN, "--json")
    assert code == 0, err
    first = json.loads(out)
    assert first["queries"] == 55
    assert first["disagreement"]["all"]["n"] == 2
    code, out, err = command(*TRAIN)
    assert "55 of 55 answers are in surrogate-training" in err
    code, out, err = command(*TRAIN, "--seed", "1")
    assert code == 2
    assert "--no-resume" in err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--output", "s.pt"), "ends in .safetensors"),
        (("--network", "resnot"), "resnot"),
        (("--device", "cuda:99"), "cannot be used"),
        (("--data", "none"), "not a folder"),
        (("--data", ""), "'' is not a folder"),
        (("--output", "photos/0.png/s.safetensors"), "cannot write to"),
        (("--model", "none.safetensors"), "there is no file"),
    ],
)
def test_a_mistake_is_one_line(folder, command, args, words):
    pytest.importorskip("timm")
    code, _, err = command(*TRAIN, *args)
    assert code == 2
    lines = [line for line in err.splitlines() if line.startswith("Error")]
    assert len(lines) == 1
    assert words in lines[0]
    assert not Path("surrogate.safetensors").exists()


def test_lines_without_a_terminal():
    to = Console(file=io.StringIO(), width=120)
    with surrogate_bar(to) as (on_step, on_message):
        on_message("[beginning]")
        for number in range(1, 1201):
            on_step(SurrogateStep("asking", number, 1200))
        for number in range(1, 201):
            on_step(SurrogateStep("learning", number, 200, 0.5))
    lines = to.file.getvalue().splitlines()
    assert lines[0] == "[beginning]"
    assert lines[1:] == [
        "asking: 500 of 1200", "asking: 1000 of 1200", "learning: 100 of 200 KL 0.500", "learning: 200 of 200 KL 0.500",
    ]  # fmt: skip


def test_the_table():
    to = Console(file=io.StringIO(), width=120)
    figure = {"mean": 0.5, "low": 0.25, "high": 0.75}
    facts = {
        "disagreement": {"whole": {"kl": figure, "agreement": figure, "difference": figure, "n": 9}}
    }
    surrogate_table(facts | {"held_out": 9, "rule": "large: so", "large": False, "queries": 70}, to)
    text = to.file.getvalue()
    assert "50% 25% 75%" in text
    assert "0.500 0.250 0.750" in text
    assert "70 queries; the disagreement is not large" in text


def test_one_held_out_picture_has_no_interval():
    nothing = float("nan")
    figure = {"mean": 0.5, "low": nothing, "high": nothing}
    kinds = {"whole": {"agreement": figure, "difference": figure, "kl": figure, "n": 1}}
    to = Console(file=io.StringIO(), width=160)
    surrogate_table(
        {
            "disagreement": kinds,
            "held_out": 1,
            "queries": 50,
            "large": False,
            "rule": "large: never",
        },
        to,
    )
    assert "50%" in to.file.getvalue()
    assert "nan" not in to.file.getvalue()
