"""evaluate, compare and report, as a user meets them."""

import json
import sys
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

from saliencykit.cli import main


def call(monkeypatch, capsys, *args):
    """Exit code, stdout and the lines on stderr of a command in this process."""
    monkeypatch.setattr(sys, "argv", ["saliencykit", *args])
    monkeypatch.setenv("SALIENCYKIT_TRACEBACK", "1")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main() sets its own
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    shown = capsys.readouterr()
    return code, shown.out, [line for line in shown.err.splitlines() if not line.startswith("Warning")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    Path("photos").mkdir()
    generator = torch.Generator().manual_seed(0)
    for i in range(3):
        pixels = torch.randint(256, (20, 30, 3), generator=generator, dtype=torch.uint8).numpy()
        Image.fromarray(pixels).resize((90, 60)).save(f"photos/{i}.png")
    Path("photos/damaged.png").write_bytes(b"nothing")
    return tmp_path


SMALL = ("--data", "photos", "--masker", "boxes=centre-box:area=0.2", "--metric", "saliency-score")


def test_from_photos_to_the_page(folder, monkeypatch, capsys):
    code, out, err = call(monkeypatch, capsys, "evaluate", *SMALL)
    assert code == 0, err
    assert "saliency-score/score down" in out
    for name in ("boxes", "centre-box", "whole-image", "random", "grad-cam"):
        assert name in out
    assert "over 3 of 4 pictures" in out
    assert "1 picture without all scores by every masker: 'photos/damaged.png' is not a picture that Pillow can read." in out
    assert "20 of 20 rows" in err[-1]
    code, out, err = call(monkeypatch, capsys, "evaluate", *SMALL)
    assert (code, err) == (0, []), "nothing was left to do"
    code, out, _ = call(monkeypatch, capsys, "compare", "run", "--against", "random")
    assert code == 0
    assert "each less 'random'" in out
    code, out, _ = call(monkeypatch, capsys, "compare", "run", "--against", "random", "--json")
    assert {each["masker"] for each in json.loads(out)} == {"boxes", "centre-box", "whole-image", "grad-cam"}
    code, out, _ = call(monkeypatch, capsys, "report", "run", "--out", "page.html")
    assert code == 0
    assert "page.html written" in out
    assert Path("page.html").read_text(encoding="utf-8").count("data:image/jpeg") == 3 * (1 + 5 * 3)


def test_json_is_all_that_stdout_holds(folder, monkeypatch, capsys):
    code, out, err = call(monkeypatch, capsys, "evaluate", *SMALL, "--json", "--limit", "2", "--no-baselines")
    assert (code, err) == (0, [])
    found = json.loads(out)
    assert {line["masker"] for line in found["table"]} == {"boxes"}
    assert found["table"][0]["n"] == 2


def test_a_saved_explanation_has_a_page_too(folder, monkeypatch, capsys):
    assert call(monkeypatch, capsys, "explain", "photos/0.png", "--masker", "centre-box")[0] == 0
    code, _, _ = call(monkeypatch, capsys, "report", "explanation")
    assert code == 0
    assert Path("explanation/report.html").read_text(encoding="utf-8").count("data:image/jpeg") == 3


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("evaluate", "--data", "nowhere", "--metric", "saliency-score"), "nowhere"),
        (("evaluate", *SMALL, "--metric", "insertoin"), "Did you mean 'insertion'"),
        (("evaluate", *SMALL, "--masker", "rize"), "Did you mean 'rise'"),
        (("evaluate", *SMALL, "--masker", "boxes=rise"), "each name once"),
        (("evaluate", *SMALL, "--out", "photos/0.png"), "cannot write to"),
        (("compare", "nowhere", "--against", "x"), "there is no evaluation in nowhere"),
        (("report", "nowhere"), "there is no evaluation in nowhere"),
    ],
)
def test_a_mistake_is_one_line_with_exit_code_2(folder, monkeypatch, capsys, args, words):
    code, out, err = call(monkeypatch, capsys, *args)
    assert code == 2
    assert len(err) == 1, err
    assert words in err[0]
    assert out == ""
    assert {path.name for path in folder.iterdir()} == {"photos"}
