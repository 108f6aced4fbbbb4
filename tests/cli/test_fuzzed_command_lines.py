"""Command lines at random: odd values for every option of every command, in any combination. Each
is a documented exit code and a message, never a traceback.
"""

import os
import random
import signal
import sys
import unicodedata
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from saliencykit.cli.main import app, main

# odd values earn every warning there is: a line of stderr
pytestmark = pytest.mark.filterwarnings("default::UserWarning")

LIMIT = 2.0  # seconds, then Ctrl-C: also at a random moment
ODD = (
    *("", " ", "0", "1", "-1", "2", "7", "0.3", "1e9", "-0.0", "nan", "inf", "9" * 30, "0x10"),
    *(
        "1_0",
        "\u0661",
        "\u00bd",
        "True",
        "none",
        "null",
        "é",
        "\udcff",
        "\x1b[31m",
        "\u202e",
        "a\nb",
    ),
    *("[bold]", "[/]", "=1+1", "a" * 300, "a" * 5000, "%s", "{}", "*", "--", "-", "--help", "~"),
    *("/dev/null", "/dev/null/x", "/proc/none/x", ".", "..", "images", "images/0.png", "missing"),
    *("missing.png", "bad.png", "bad.safetensors", "images/bad.safetensors", "table.csv", "empty"),
    *("bad.csv", "rows.jsonl", "run", "scores", "saved", "clip.mp4", "x.mp4", "x.html", "x.json"),
    *("x.safetensors", "voc:images", "coco:images", "coco:images,annotations=table.csv", "voc:"),
    *(
        "http://127.0.0.1:9/x.png",
        "demo",
        "timm:",
        "timm:nope",
        "torchvision:nope",
        "nope",
        "a:b:c",
    ),
    *("cpu", "cuda", "cuda:99", "mps", "meta", "auto", "uint8", "float16", "bf16", "no", "trunk"),
    *("center-box", "center-box:area=nan", "center-box:area=2", "center-box:=", "cam", "random"),
    *("rise:samples=", "rise:samples=-1", "rise:samples=4", "rise:samples=4,samples=5", "a=b"),
    *("one=center-box", "stored:run", "stored:missing", "on-surrogate:x,masker=y", "blur", "blur:"),
    *("blur:sigma=nan", "blur:sigma=-1", "blur:sigma=1e9", "constant:value=7", "choice", "noise"),
    *("saliency-score", "insertion", "insertion:steps=0", "insertion:steps=2", "localization"),
    *(
        "wrong-label",
        "class-leakage",
        "head",
        "weights",
        "tabby",
        "285",
        "top",
        "follow",
        "n01440764",
    ),
)
# options without which a command would take long, given unless the case gives them itself
SHORT = {
    "explain": ("--masker", "center-box"),
    "fit": ("--steps", "2", "--output", "m.safetensors"),
    "fit-surrogate": ("--queries", "50", "--steps", "2", "--output", "s.safetensors"),
    "evaluate": ("--masker", "center-box", "--metric", "saliency-score", "--output", "run"),
    "sanity-check": ("--check", "wrong-label", "--max-images", "2"),
    "compare": (),
    "report": (),
    "doctor": (),
}
NEEDED = {
    "fit": ("--data", "images"),
    "fit-surrogate": ("--data", "images", "--model", "demo"),
    "evaluate": ("--data", "images"),
    "sanity-check": ("--data", "images"),
    "compare": ("scores", "--baseline", "center-box"),
    "report": ("scores",),
}


def arguments(random_: random.Random) -> list[str]:
    """A command line: a command, what it needs or not, and some options with odd values."""
    command = random_.choice([*SHORT, "explain", "evaluate"])
    parameters = typer.main.get_command(app).commands[command].params
    options = [each for each in parameters if each.param_type_name == "option"]
    given: list[str] = []
    if command == "explain":
        given += random_.choices(ODD, k=random_.choice((0, 1, 1, 1, 2)))
    elif random_.random() < 0.9:
        given += NEEDED.get(command, ())
    for option in random_.choices(options, k=random_.choice((0, 1, 1, 2, 3))) if options else ():
        given.append(random_.choice([*option.opts, *option.secondary_opts]))
        if not option.is_flag and random_.random() < 0.97:
            given.append(random_.choice(ODD))
    if random_.random() < 0.05:
        given.insert(random_.randrange(len(given) + 1), random_.choice(ODD))
    short = SHORT[command]
    for name, value in zip(short[::2], short[1::2], strict=True):
        given += () if name in given else (name, value)
    return [command, *given]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Images, damaged files, an evaluation and an explained data set."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "images").mkdir()
    for i in range(5):
        noise = np.random.default_rng(i).integers(0, 255, (40, 40, 3), np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"{i}.png")
    for name in ("bad.png", "bad.csv", "bad.safetensors", "images/bad.png"):
        (folder / name).write_bytes(bytes(range(256)))
    (folder / "table.csv").write_text("path,label\nimages/0.png,3\nimages/1.png,cat\n,\nno.png,1\n")
    (folder / "rows.jsonl").write_text('{"path": "images/0.png"}\n{"path": 3}\n')
    (folder / "clip.mp4").write_bytes(b"no video")
    (folder / "empty").mkdir()
    return folder


@contextmanager
def interrupted_after(seconds: float):
    """Ctrl-C after so many seconds."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(line, monkeypatch, capsys, limit=LIMIT):
    """Exit code, stdout, stderr; an exception that `main` lets out fails the test."""
    monkeypatch.setattr(sys, "argv", ["saliencykit", *line])
    code = 0
    try:
        with interrupted_after(limit):
            main()
    except SystemExit as stop:
        code = stop.code or 0
    return code, *capsys.readouterr()


def check(line, code, out, err):
    assert code in (0, 2, 3, 130), (line, code, err)
    assert "Traceback" not in err, (line, err)
    assert "Unexpected" not in err, (line, err)
    shown = (out + err).replace("\n", "")
    acting = {c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs")}
    assert not acting, (line, acting)
    if code:
        assert err.strip(), line
    if code == 2 and "─ Error ─" not in err:  # ours, not the parser's
        last = [each for each in err.splitlines() if not each.startswith("Warning: ")]
        assert last[-1].startswith("Error: "), (line, err)
        assert len(last[-1]) < 12_000, line


def fuzz(seeds, prepared, tmp_path, monkeypatch, capsys):
    work = tmp_path / "deep" / "work"
    work.mkdir(parents=True)
    os.system(f"cp -r {prepared}/. {work}")
    monkeypatch.chdir(work)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SALIENCYKIT_TRACEBACK", raising=False)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    threads = torch.get_num_threads()
    codes = []
    for line in (SETUP_EVALUATE, SETUP_EXPLAIN):
        code, _, err = run(line, monkeypatch, capsys, limit=300)
        assert code == 0, err
    for seed in seeds:
        line = arguments(random.Random(seed))
        code, out, err = run(line, monkeypatch, capsys)
        check(line, code, out, err)
        codes.append(code)
    torch.set_num_threads(threads)
    assert len(set(codes)) > 1
    assert not [path for path in Path().rglob(".*") if path.name.rpartition("-")[2].isdigit()]


SETUP_EVALUATE = ["evaluate", *NEEDED["evaluate"], *SHORT["evaluate"][:-1], "scores"]
SETUP_EXPLAIN = ["explain", "images", *SHORT["explain"], "--output", "saved"]


def test_odd_command_lines_are_an_exit_code_and_a_message(prepared, tmp_path, monkeypatch, capsys):
    fuzz(range(6), prepared, tmp_path, monkeypatch, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 1300, 50))
def test_many_odd_command_lines(start, prepared, tmp_path, monkeypatch, capsys):
    fuzz(range(start, start + 50), prepared, tmp_path, monkeypatch, capsys)
