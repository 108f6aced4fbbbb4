import torch
from torch import nn

from benchmarks import frames


def test_every_way_gives_the_same_masks(monkeypatch):
    stages = [nn.Conv2d(3, 4, 3, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, 4, 1), nn.ReLU()]
    model = (
        nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 300))
        .eval()
        .requires_grad_(False)
    )
    monkeypatch.setattr(frames, "network", lambda name: model)
    monkeypatch.setattr(frames.torch, "compile", lambda module: module)
    found = frames.lines("tiny", 32, 2, torch.device("cpu"), 2, True)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in found]
    names = [row[3] for row in cells]
    assert names[:3] == ["float32", "bfloat16", "compiled"]
    assert cells[0][5:] == ["1.00", "0.0e+00"]
    assert all(float(row[6]) < (0.05 if row[3] == "bfloat16" else 1e-3) for row in cells)
    assert all(float(row[4]) > 0 for row in cells)
