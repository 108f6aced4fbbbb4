"""Helpers that many tests share."""

import csv
from pathlib import Path

import torch


def seeded(seed: int = 0) -> torch.Generator:
    """A CPU generator with this seed."""
    return torch.Generator().manual_seed(seed)


def table_rows(path: Path) -> list[dict[str, str]]:
    """The lines of a table by the names of its columns."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
