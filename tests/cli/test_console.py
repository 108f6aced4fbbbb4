"""Progress, tables and messages in a terminal and without one."""

import io

import pytest
from rich.console import Console

from saliencykit.cli import console
from saliencykit.cli.console import complain, print_table, progress, say, warn


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves, by seconds."""
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])

    def advance(seconds):
        now[0] += seconds

    return advance


def test_without_a_terminal_there_is_a_line_every_ten_seconds_and_at_the_end(clock, capsys):
    with progress("explaining", 10, unit="images") as update:
        for done in range(1, 11):
            update(done, note="[1 failed]")
            clock(6)
    assert capsys.readouterr().err.splitlines() == [
        "explaining: 3 of 10 images, about 42 s left, [1 failed]",
        "explaining: 5 of 10 images, about 30 s left, [1 failed]",
        "explaining: 7 of 10 images, about 18 s left, [1 failed]",
        "explaining: 9 of 10 images, about 6 s left, [1 failed]",
        "explaining: 10 of 10 images, [1 failed]",
    ]


def test_rows_of_an_earlier_call_took_no_time_in_this_one(clock, capsys):
    with progress("evaluating", unit="rows") as update:
        update(91, 100)
        clock(10)
        update(92, 100)
    assert capsys.readouterr().err == "evaluating: 92 of 100 rows, about 80 s left\n"


def test_each_phase_counts_from_its_own_start(clock, capsys):
    with progress("preparing", unit="steps") as update:
        for phase in ("warm-up", "mixing"):
            for done in (1, 2):
                clock(1)
                update(done, 2, phase)
    assert capsys.readouterr().err.splitlines() == [
        "warm-up: 2 of 2 steps",
        "mixing: 2 of 2 steps",
    ]


def test_an_unknown_total_is_no_error(clock, capsys):
    with progress("explaining", unit="frames") as update:
        update(1)
        clock(11)
        update(2)
    assert capsys.readouterr().err == "explaining: 2 frames\n"


def test_short_work_and_quiet_work_print_nothing(clock, capsys):
    with progress("explaining", unit="evaluations") as update:
        update(16)
    with progress("explaining", 1, quiet=True) as update:
        update(1)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_with_counts_and_notes(monkeypatch):
    text = io.StringIO()
    terminal = Console(file=text, force_terminal=True, width=160, highlight=False)
    monkeypatch.setattr(console, "console", lambda **_: terminal)
    with progress("preparing", unit="steps") as update:
        for done in range(1, 121):
            update(done, 120, "[mixing]", "[loss] 3.21")
    shown = text.getvalue()
    for words in ("[mixing]", "120 of 120 steps", "[loss] 3.21"):
        assert words in shown
    assert "about" not in shown


def test_lines_and_cells_are_printed_as_they_are(capsys):
    say("in [folder] " + "x" * 300)
    print_table(("name", "n"), [["a", "1"], ["b", "[dim]12[/dim]"]])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["in [folder] " + "x" * 300, "name   n", "a      1", "b     12"]


def test_complaints_and_warnings_are_one_line_on_stderr(capsys):
    complain("Error: one\n  two")
    warn(UserWarning("three\nfour"), UserWarning, "file.py", 3)
    assert capsys.readouterr() == ("", "Error: one two\nWarning: three four\n")
