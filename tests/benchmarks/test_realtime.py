import torch
from torch import nn

from benchmarks import realtime
from benchmarks.realtime import Row, measure, table


def row(name, seconds, **options):
    made = Row(name, lambda: None, 1, **options)
    made.seconds.update(enumerate(seconds))
    return made


def test_ratios_are_taken_within_a_round():
    lines = table(
        [
            row("model", [1, 10, 100]),
            row("frozen", [0.5, 5, 50]),
            row("ours", [2, 20, 200]),
            row("slow", [3000]),
        ]
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines.splitlines()[2:]]
    assert rows[0] == ["model", "0.10", "1", "2.00", "0.50", ""]
    assert rows[2] == ["ours", "0.05", "2.00", "4.00", "1", ""]
    assert rows[3][2:5] == ["3,000", "6,000", "1,500"], "of the rounds that both ran in"


def test_what_is_measured_in_part_is_multiplied(monkeypatch):
    now, calls = [0.0], []

    def work():
        calls.append(1)
        now[0] += 2.0

    monkeypatch.setattr(realtime, "clock", lambda device: now[0])
    rows = [Row("all", work, 4), Row("a tenth", work, 1, share=0.1, slow=True)]
    measure(rows, 5, torch.device("cpu"))
    assert rows[0].seconds == dict.fromkeys(range(5), 0.5)
    assert set(rows[1].seconds) == set(range(realtime.SLOW))
    assert set(rows[1].seconds.values()) == {20.0}
    assert len(calls) == 6 + 1 + realtime.SLOW


def test_a_line_up_runs(monkeypatch):
    stages = [nn.Conv2d(3, 4, 3, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, 4, 1), nn.ReLU()]
    model = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 300))
    monkeypatch.setattr(realtime, "network", lambda name: model.eval().requires_grad_(False))
    rows, absent = realtime.line_up("tiny", 2, torch.device("cpu"), others=False)
    measure(rows, 1, torch.device("cpu"))
    assert len(rows) == 4
    assert not absent
    assert "one thread" in realtime.machine(torch.device("cpu"))
