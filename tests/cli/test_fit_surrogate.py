"""The command fit-surrogate, as a user meets it."""

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from saliencykit import Surrogate
from saliencykit.cli.fit_surrogate import print_fidelity, step_note
from saliencykit.surrogate.distillation import SurrogateStep

# two steps on random pixels teach nothing, and the command says so
pytestmark = pytest.mark.filterwarnings("always:the (surrogate has low|masker failed held)")


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


@pytest.mark.slow
def test_a_masker_trained_on_a_surrogate_explains_the_model(folder, command):
    code, out, err = command(*TRAIN, "--output", "s.safetensors")
    assert code == 0, err
    assert "10 images of 80x80, 2 of them held out; 55 queries" in err
    assert "low fidelity" in err
    assert "50% kept" in out
    assert "55 queries; the fidelity is low" in out
    assert (
        "next: saliencykit fit --model s.safetensors --data photos --output masker.safetensors"
        in out
    )
    assert "--model demo --masker on-surrogate:s.safetensors,masker=masker.safetensors" in out
    # a slow machine writes several files of answers
    kept = {path.name.split("-")[0] for path in Path("s-training").iterdir()}
    assert kept == {"answers", "lock", "threads.txt"}
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
    assert "--model ORIGINAL-MODEL --masker on-surrogate:s.safetensors,masker=m.safetensors" in out


def test_a_second_call_reuses_the_models_outputs(folder, command):
    code, out, err = command(*TRAIN, "--json")
    assert code == 0, err
    first = json.loads(out)
    assert first["queries"] == 55
    assert first["fidelity"]["all"]["n"] == 2
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


def test_a_step_is_one_line():
    assert step_note(SurrogateStep("training", 3, 9, 0.5)) == "KL 0.500"
    assert step_note(SurrogateStep("querying", 3, 9)) == ""


def test_the_table_has_intervals_where_there_is_more_than_one_image(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    facts = {"held_out": 9, "rule": "low: so", "low_fidelity": False, "queries": 70}
    for low, high, shown in ((0.25, 0.75, "50% 25% 75%"), (math.nan, math.nan, "50%")):
        figure = {"mean": 0.5, "low": low, "high": high}
        kind = {"agreement": figure, "difference": figure, "kl": figure, "n": 9}
        print_fidelity(facts | {"fidelity": {"whole": kind}})
        text = capsys.readouterr().out
        assert shown in text
        assert "nan" not in text
        assert ("0.500 0.250 0.750" in text) == (low == low)
        assert "70 queries; the fidelity is sufficient" in text
