"""Rows of results in a file: one JSON line per photo and method, appended as they come, so that a
killed run goes on.
"""

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """The finished rows, the first of each photo and method; half a line of a killed run is left
    out.
    """
    rows: dict[tuple[str, str], Row] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
            rows.setdefault((row["photo"], row["method"]), row)
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    return list(rows.values())


def append(path: Path, row: Row) -> None:
    """Write one row behind the others, on a line of its own even where a killed run left half a
    line.
    """
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write((json.dumps(row, separators=(",", ":")) + "\n").encode())
