"""What the command line shows; `test_cli.py` looks at it from outside."""

import io
import math

import pytest
from rich.console import Console

from saliencykit.cli.console import (
    complain,
    counting_bar,
    explaining_bar,
    gate_line,
    training_bar,
    warn,
)
from saliencykit.training.schedule import FitStep

GATE = {
    "n": 48,
    "whole": 0.8,
    "area": 0.105,
    "kept": 0.643,
    "dropped": 0.122,
    "fake": 0.135,
    "mosaic": 0.706,
}


def step(number, phase="mixing"):
    return FitStep(number, phase, loss=3.21, of=120, area=0.3, fake_area=0.1, kept=0.5, dropped=0.2)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_training_shows_a_bar_or_a_line_now_and_then(terminal):
    text = io.StringIO()
    to = Console(file=text, force_terminal=terminal, width=160, highlight=False)
    with training_bar(to) as (on_step, on_message):
        on_message("10 pictures of 64x64 in [folder]")
        for number in range(1, 121):
            on_step(step(number, "warm-up" if number <= 20 else "mixing"))
    shown = text.getvalue()
    assert "10 pictures of 64x64 in [folder]" in shown, "brackets are no markup"
    assert "None" not in shown
    lines = [line for line in shown.splitlines() if line.startswith("step ")]
    if terminal:
        assert lines == []
        assert "120/120" in shown
        assert "area 0.30 kept 0.50 dropped 0.20 fakes 0.10" in shown
    else:
        assert [line.split(":")[0] for line in lines] == ["step 50 of 120", "step 100 of 120"]
        assert lines[0].endswith("loss 3.21 area 0.30 kept 0.50 dropped 0.20 fakes 0.10")
        assert "\x1b" not in shown


def test_the_gate_is_one_line():
    assert gate_line(GATE) == (
        "held out, 48 pictures: area 10.5%, kept 64.3%, dropped 12.2% (whole 80.0%); a class that "
        "is not there gets 0.14 of the area; mosaics 0.71 (chance 0.25)"
    )
    assert gate_line(GATE | {"mosaic": math.nan}).endswith("0.14 of the area"), (
        "too few classes for mosaics"
    )


def test_explaining_says_nothing_where_nobody_watches(capsys):
    with explaining_bar(2, quiet=False) as advance:
        advance(16)
    assert capsys.readouterr() == ("", "")


def test_a_complaint_and_a_warning_are_one_line_on_stderr(capsys):
    complain("Error: one\n  two")
    warn(UserWarning("three\nfour"), UserWarning, "file.py", 3)
    assert capsys.readouterr() == ("", "Error: one two\nWarning: three four\n")


def test_where_nobody_knows_how_many_there_will_be_lines_come_at_fixed_numbers():
    to = Console(file=io.StringIO(), width=120)
    with counting_bar(to, "things", every=10) as advance:
        for done in range(1, 36):
            advance(done, None, "[doing]")
    assert to.file.getvalue().splitlines() == ["10 of ? things", "20 of ? things", "30 of ? things"]
