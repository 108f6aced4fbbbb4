from saliencykit.cli import clip_summary
from saliencykit.cli.clip_summary import clip_bar


def test_without_a_terminal_there_is_a_line_now_and_then(monkeypatch, capsys):
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(clip_summary.time, "perf_counter", lambda: float(next(clock)) + 1)
    with clip_bar(10, quiet=False) as advance:
        for done in range(1, 6):
            advance(done)
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[0].startswith("frame 3 of 10: ")
    assert "s left" in lines[0]
    assert len(lines) == 2


def test_quiet_says_nothing_and_an_unknown_end_is_no_error(monkeypatch, capsys):
    monkeypatch.setattr(clip_summary, "_EVERY", 0.0)
    with clip_bar(None, quiet=True) as advance:
        advance(1)
        advance(2)
    assert capsys.readouterr().err == ""
    with clip_bar(None, quiet=False) as advance:
        advance(1)
        advance(2)
    assert "left" not in capsys.readouterr().err
