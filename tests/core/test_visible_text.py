"""Names from elsewhere are text in a terminal, a page, a table and a file of rows."""

import csv
import json
import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from saliencykit.core.visible_text import csv_cell, visible
from saliencykit.evaluation.score_rows import Row
from saliencykit.evaluation.scores import Scores
from saliencykit.visualization.html_page import plain
from tests.helpers import table_rows

ACTING = (
    *("\x1b[31mred", "a\x07", "one\ntwo", "one\rtwo", "tab\t", "\x00", "\x9b31m", "\u202egnp"),
    *("\u2066x", "\u2028line", "\ufeffbom", "\udcff", "\x1b]0;title\x07", "zero\u200bwidth"),
)
NAMES = (
    b"caf\xe9.png",
    b"\x1b[31mred.png",
    b"=HYPERLINK(1).png",
    b"-1.png",
    b"one\ntwo.png",
    b"[red]x[#/red].png".replace(b"#/", b""),
    b"<b>bold<script>.png",
    "\u202egnp.png".encode(),
    "[link=x]ü.png".encode(),
)


@pytest.mark.parametrize("text", ACTING)
def test_no_character_that_acts_remains(text):
    shown = visible(text)
    assert not {unicodedata.category(each) for each in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert shown.encode()
    assert plain(f"<{text}>").startswith("&lt;")


@pytest.mark.parametrize(
    "text", ["tabby cat", "日本語", "e\u0301", "العربية", "नमस्ते", "👩\u200d💻", "[red]", "\\d"]
)
def test_text_of_every_script_stays_as_it_is(text):
    assert visible(text) == text


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", " =", "\uff1d"])
def test_a_table_runs_no_formula(start, tmp_path):
    name = f"{start}1+2"
    assert str(csv_cell(name))[0] in "'\\"
    rows = (Row(sample="a", index=0, masker=name, scores={"m": -0.5}),)
    path = Scores(rows, {"metrics": {"m": {}}}).to_csv(tmp_path / "table.csv")
    (line,) = table_rows(path)
    assert line["masker"] == csv_cell(name)
    assert float(line["mean"]) == -0.5


@pytest.mark.slow
def test_images_of_any_name_are_explained_and_shown(tmp_path, command):
    folder = os.fsencode(tmp_path / "images")
    os.mkdir(folder)
    for i, name in enumerate(NAMES):
        Image.fromarray(np.full((40, 40, 3), 20 * i, np.uint8)).save(tmp_path / "one.png")
        os.rename(tmp_path / "one.png", os.path.join(folder, name))
    open(os.path.join(folder, b"bad\xff\x1b.png"), "wb").close()
    run = ("explain", "images", "--masker", "center-box", "--output", "run", "--overlays", "99")
    code, out, err = command(*run)
    assert code == 0, err
    (block,) = (tmp_path / "run/blocks").glob("*.jsonl")
    rows = [json.loads(line) for line in block.read_text().splitlines()]
    assert [row["failure"] is None for row in rows].count(True) == len(NAMES)
    assert len({row["name"] for row in rows}) == len(NAMES) + 1
    with (tmp_path / "run/table.csv").open(newline="", encoding="utf-8") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    assert all(
        cell == visible(cell) and not cell.startswith(("=", "-", "+", "@")) for cell in cells
    )
    assert command("report", "run")[0] == 0
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "bold<script" not in page
    assert "&lt;b&gt;bold&lt;script&gt;.png" in page
    for text in (out, err, page.replace("\n", "")):
        assert text == "".join(
            visible(part) + "\n" for part in text.splitlines()
        ) or text == visible(text)
    assert command(*run)[0] == 0  # resumes
    several = [os.path.join("images", os.fsdecode(name)) for name in NAMES]
    code, out, err = command("explain", *several, "--masker", "center-box", "--output", "some")
    assert code == 0, err
    assert "[red]x[red].png" in out
    metric = ("--metric", "saliency-score", "--output", "scores")
    code, out, err = command("evaluate", "--data", "images", "--masker", "center-box", *metric)
    assert code == 0, err
    assert command("report", "scores")[0] == 0


def test_a_directory_of_any_name_holds_a_run(tmp_path, command):
    Image.new("RGB", (40, 40), (90, 20, 30)).save(tmp_path / "a.png")
    here = os.fsdecode(b"d\xe9\x1b[31m")
    os.mkdir(os.path.join(tmp_path, here))
    os.rename(tmp_path / "a.png", os.path.join(tmp_path, here, "a.png"))
    for output in ("one", f"{here}-out"):
        code, out, err = command("explain", here, "--masker", "center-box", "--output", output)
        assert code == 0, err
        assert "\x1b" not in out + err
        assert command("report", output)[0] == 0
    code, out, err = command("explain", f"{here}/no.png")
    assert code == 2
    assert "\x1b" not in out + err
