"""SIGKILL at random moments of every command: the same command then ends as if nothing had
happened, and leaves nothing behind.
"""

import csv
import json
import multiprocessing
import os
import random
import re
import signal
import sys
import time
import warnings
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from saliencykit.cli.main import main
from saliencykit.runs import write_buffer
from saliencykit.training import loop
from tests.clips import write_clip

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forks")
# of a server that has run no backward pass: torch refuses another one after a fork
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        __name__,
        "saliencykit.demo.embedded_files",
        "saliencykit.evaluation.evaluate_maskers",
        "saliencykit.explanation.dataset_explainer",
        "saliencykit.surrogate.surrogate_training",
        "saliencykit.training.fit_masker",
    ]
)
IMAGES, STEPS = 6, 12
UMASK = os.umask(0)
os.umask(UMASK)
COMMANDS = {
    "images": ("explain", *(f"../images/{i}.png" for i in range(4)), "--masker", "rise:samples=6"),
    "data": (
        *("explain", "../images", "--masker", "rise:samples=6", "--batch-size", "2"),
        *("--overlays", "4"),
    ),
    "evaluate": (
        *("evaluate", "--data", "../images", "--masker", "rise:samples=4", "--batch-size", "2"),
        *("--metric", "insertion:steps=2", "--report-images", "3", "--no-baselines"),
    ),
    "fit": ("fit", "--data", "../images", "--steps", str(STEPS), "--batch-size", "2"),
    "fit-surrogate": (
        *("fit-surrogate", "--data", "../images", "--model", "demo", "--queries", "64"),
        *("--steps", "5", "--batch-size", "8"),
    ),
    "video": ("explain", "../clip.mp4", "--output", "clip.mp4"),
    "sanity": (
        *("sanity-check", "--data", "../images", "--masker", "grad-cam", "--check", "wrong-label"),
        *("--output", "sanity.json"),
    ),
    "report": ("report", "../scores", "--output", "page.html"),
}
VARYING = {"seconds", "command"}  # of a row, a manifest or a table


def child(folder: Path, line: tuple[str, ...]) -> BaseProcess:
    """Runs a command line in a folder, in a process of its own."""
    process = SERVER.Process(target=work, args=(folder, line))
    process.start()
    return process


def work(folder: Path, line: tuple[str, ...]) -> None:
    with (folder.parent / "said").open("w") as sys.stdout:
        sys.stderr = sys.stdout
        code = run(folder, line)
    os._exit(code)


def run(folder: Path, line: tuple[str, ...]) -> int:
    """Run a command line in this process; returns the exit code."""
    os.chdir(folder)
    sys.argv = ["saliencykit", *line]
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    loop._SAVE_SECONDS = 0.05
    write_buffer.SECONDS = 0.0
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def finish(folder: Path, line: tuple[str, ...]) -> float:
    """Run a command line to its end; returns the seconds."""
    started = time.perf_counter()
    process = child(folder, line)
    process.join(240)
    assert process.exitcode == 0, (folder.parent / "said").read_text()
    return time.perf_counter() - started


def without_times(value):
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in VARYING}
    return [without_times(each) for each in value] if isinstance(value, list) else value


def tensors(path: Path) -> tuple[dict[str, bytes], object]:
    """The tensors of a file, and its header without times."""
    with safe_open(path, framework="pt") as file:
        names = file.keys()
        data = {name: file.get_tensor(name).numpy().tobytes() for name in names}
        header = {key: json.loads(text) for key, text in (file.metadata() or {}).items()}
    return data, without_times(header)


def content(folder: Path) -> dict[str, object]:
    """What is in a folder, without times and without how it is split into files."""
    found: dict[str, object] = {"maps": {}, "answers": b""}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or path.name in ("lock", "threads.txt"):
            continue
        assert path.stat().st_mode & 0o777 == 0o666 & ~UMASK, f"{name} is not as other files are"
        if name.startswith("blocks/"):  # which rows are together depends on the time
            if path.suffix == ".safetensors":
                found["maps"] |= tensors(path)[0]
        elif path.suffix == ".safetensors" and path.name.startswith("answers-"):
            found["answers"] += tensors(path)[0]["logits"]
        elif path.suffix == ".safetensors":
            found[name] = tensors(path)
        elif path.suffix == ".jsonl":
            found[name] = [without_times(json.loads(row)) for row in path.read_text().splitlines()]
        elif path.suffix == ".json":
            found[name] = without_times(json.loads(path.read_text()))
        elif path.suffix == ".csv":
            rows = csv.DictReader(path.read_text().splitlines())
            found[name] = [without_times(row) for row in rows]
        else:
            found[name] = path.read_bytes()
    log = next((rows for name, rows in found.items() if name.endswith("log.jsonl")), None)
    if log:  # the time since the start is in every step
        numbers = [row["step"]["number"] for row in log if "step" in row]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= STEPS  # and those of the distillation
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images."""
    folder = tmp_path_factory.mktemp("kills")
    (folder / "images").mkdir()
    for i in range(IMAGES):
        noise = np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def whole(data):
    """What each command leaves when nothing stops it, and how long it takes."""

    @cache
    def of(command):
        if command == "video":
            pytest.importorskip("av")
            write_clip(data / "clip.mp4", count=8, size=(64, 48))
        if command == "report":
            (data / "scores").mkdir()
            finish(data / "scores", (*COMMANDS["evaluate"], "--output", "."))
        warm, folder = data / f"warm-{command}", data / f"whole-{command}"
        warm.mkdir()
        folder.mkdir()
        finish(warm, COMMANDS[command])  # the server has started, files are in memory
        seconds = finish(folder, COMMANDS[command])
        return content(folder), seconds

    return of


def kill_and_run(command, seed, data, whole):
    expected, seconds = whole(command)
    folder, random_ = data / f"{command}-{seed}", random.Random(f"{command} {seed}")
    folder.mkdir()
    killed = 0
    for _ in range(random_.choice((1, 1, 2, 3))):
        process = child(folder, COMMANDS[command])
        process.join(random_.uniform(0, 1.1 * seconds))
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.join(60)
    finish(folder, COMMANDS[command])
    left = [path.name for path in folder.rglob("*")]
    assert not [n for n in left if n.startswith(".") or re.search(r"\.reserve$|lock\.", n)]
    found = content(folder)
    assert found.keys() == expected.keys()
    different = [name for name in expected if found[name] != expected[name]]
    assert not different
    return killed


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_killed_many_times_end_as_if_nothing_had_happened(command, data, whole):
    assert sum(kill_and_run(command, seed, data, whole) for seed in range(1, 4))
