"""Ctrl-C in a terminal: exit code 130, one or two lines, and what is finished is kept."""

import json
import os
import re
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.runs.test_kills import run

pty = pytest.importorskip("pty", reason="there are no terminals")
pytestmark = pytest.mark.slow
ENDLESS = "rise:samples=1000000"
RESUME = "Run the same command again to resume from "
SLOW = ("images", "--masker", "rise:samples=400", "--batch-size", "1", "--output", "run")
CASES = {
    "explain one image": (("explain", "images/0.png", "--masker", ENDLESS), None),
    "explain a directory": (("explain", *SLOW), "run/blocks/*.jsonl"),
    "evaluate": (("evaluate", "--metric", "saliency-score", "--data", *SLOW), "run/*.jsonl"),
    "fit": (
        ("fit", "--data", "images", "--steps", "5000", "--batch-size", "2"),
        "*-training/state*",
    ),
}


def pressed(folder: Path, line: tuple[str, ...], working: Callable[[bytes], bool]) -> list[str]:
    """Run a command line in a terminal, and press Ctrl-C once it is working.

    Returns:
        The exit code, and the lines that the terminal shows after Ctrl-C.
    """
    process, terminal = pty.fork()
    if process == 0:  # everything is imported already
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ |= {"COLUMNS": "200", "TERM": "xterm"}
        sys.stdout, sys.stderr = (os.fdopen(number, "w", 1) for number in (1, 2))
        os._exit(run(folder, line))
    screen, stopped = b"", False
    while True:
        if select.select([terminal], [], [], 0.02)[0]:
            try:
                screen += os.read(terminal, 4096)
            except OSError:  # the process has ended
                break
        if not stopped and working(screen):
            stopped = bool(os.write(terminal, b"\x03"))
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", screen).decode()
    assert "^C" in text, text
    after = [part.strip() for part in re.split(r"[\r\n]+", text.rpartition("^C")[2])]
    return [str(code), *(part for part in after if part and "━" not in part)]


@pytest.mark.parametrize("name", CASES)
def test_ctrl_c_ends_a_command_with_one_or_two_lines(name: str, tmp_path: Path) -> None:
    line, finished = CASES[name]
    (tmp_path / "images").mkdir()
    for i in range(6):
        noise = np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "images" / f"{i}.png")

    def working(screen: bytes) -> bool:
        if finished is None:
            return b" of " in screen
        return any(path.stat().st_size for path in tmp_path.glob(finished))

    code, *lines = pressed(tmp_path, line, working)
    assert code == "130"
    assert lines[-1] == "Interrupted."
    assert len(lines) == (1 if finished is None else 2), lines
    assert finished is None or lines[0].startswith(RESUME)
    rows = [
        json.loads(row)
        for path in tmp_path.rglob("*.jsonl")
        if "training" not in str(path)
        for row in path.read_text().splitlines()
    ]
    assert 0 < len(rows) < 12 if name in ("explain a directory", "evaluate") else not rows
