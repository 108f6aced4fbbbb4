"""export_run(): the rows and masks of a run in a format that other programs read."""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from saliencykit.core import checks
from saliencykit.core.errors import InputError
from saliencykit.core.visible_text import csv_cell
from saliencykit.storage.atomic_files import write_beside, write_bytes
from saliencykit.storage.blocks import Blocks
from saliencykit.storage.explanation_rows import ExplainedRow
from saliencykit.storage.locations import location
from saliencykit.storage.map_encoding import checked
from saliencykit.storage.saved_explanations import SavedExplanations

SUFFIXES = {"parquet": ".parquet", "csv": ".csv", "npz": ".npz", "coco-rle": ".json"}
"""The formats, with the suffix of their files; Parquet is a folder of files."""


def export_run(
    run: str | Path, to: str, *, output: str | Path | None = None, threshold: float = 0.5
) -> Path:
    """Write the rows and masks of a run over a data set, finished or not, in another format.

    Args:
        run: A run directory of `explain_dataset`.
        to: `parquet`: a folder of Parquet files with rows and masks, one for each block. `csv`: the
            rows, for spreadsheets. `npz`: the rows as arrays, and `masks` (N, h, w) in [0, 1] of
            the images that have one, or where their sizes differ `mask_0`, `mask_1`, ... by index.
            `coco-rle`: a list of results as COCO's tools take them, with the pixels >= `threshold`
            as run lengths, at the size of the model's input.
        output: A file, or a folder for `parquet`, in an existing folder or a new one. None:
            `export.csv` and the like in the run.
        threshold: For `coco-rle`, in (0, 1].

    Returns:
        Where it was written.

    Raises:
        InputError: There is no run, the format or the threshold is unknown, a package is missing,
            or a mask is damaged.
        SaliencyKitError: The disk is full, or the place cannot be written.

    Example:
        >>> import tempfile, torch
        >>> from saliencykit import explain_dataset
        >>> from saliencykit.testing import PlantedEvidence
        >>> folder, images = tempfile.mkdtemp(), torch.rand(3, 3, 16, 16)
        >>> options = {"masker": "center-box", "output_dir": folder}
        >>> _ = explain_dataset(PlantedEvidence(), images, **options)
        >>> with np.load(export_run(folder, "npz")) as arrays:
        ...     print(arrays["masks"].shape, arrays["label"].shape)
        (3, 16, 16) (3,)
    """
    checks.one_of("export", tuple(SUFFIXES), to=to)
    checks.numbers("export", "(0, 1]", threshold=threshold)
    saved = SavedExplanations.load(run)
    path = saved.folder / f"export{SUFFIXES[to]}" if output is None else location(output)
    if to == "parquet":
        return _parquet(saved, path)
    if to == "csv":
        write_beside(path, lambda beside: write_csv(beside, saved.rows()))
        return path
    content = _npz(saved) if to == "npz" else _coco(saved, threshold)
    write_bytes(path, content)
    return path


def write_csv(path: Path, rows: Iterable[ExplainedRow]) -> None:
    """Write rows for spreadsheets, one by one; no text in them is run as a formula.

    Args:
        path: The file.
        rows: Of a run.
    """
    with path.open("w", newline="", encoding="utf-8", errors="replace") as file:
        table = csv.writer(file, lineterminator="\n")
        names = [name for name in ExplainedRow.columns() if name != "mask"]
        table.writerow(names)
        for row in rows:
            values = row.values()
            table.writerow([csv_cell(values[name]) for name in names])


def _parquet(saved: SavedExplanations, folder: Path) -> Path:
    blocks, written = Blocks(folder), 0
    for block in saved.blocks:
        if rows := block.rows():
            maps = block.masks().items()
            masks = {i: checked(each, f"mask {i} of {saved.folder}") for i, each in maps}
            blocks.write(rows, masks, "parquet")
            written += len(rows)
    if not written:
        raise InputError(f"{saved.folder} has no finished rows to export.")
    return folder


def _npz(saved: SavedExplanations) -> bytes:
    rows = list(saved.rows())
    arrays: dict[str, Any] = {
        name: _column([row.values()[name] for row in rows])
        for name in ExplainedRow.columns()
        if name not in ("mask", "size")
    }
    masks = {row.index: saved.map_of(row)[0, 0].numpy() for row in rows if row.failure is None}
    if len({mask.shape for mask in masks.values()}) == 1:
        arrays["masks"] = np.stack(list(masks.values()))
    else:
        arrays |= {f"mask_{index}": mask for index, mask in masks.items()}
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _column(values: list[Any]) -> "np.ndarray[Any, Any]":
    """Numbers, with NaN where there is none; anything else as text. No objects, which numpy would
    pickle.
    """
    if all(value is None or isinstance(value, int | float) for value in values):
        return np.array([np.nan if value is None else value for value in values])
    return np.array(["" if value is None else str(value) for value in values])


def _coco(saved: SavedExplanations, threshold: float) -> bytes:
    results = [
        {
            "image_id": row.index,
            "file_name": row.name,
            "category_id": row.label,
            "score": row.probability,
            "segmentation": run_lengths(saved.mask_of(row)[0, 0] >= threshold),
        }
        for row in saved.rows()
        if row.failure is None
    ]
    return json.dumps(results, ensure_ascii=False).encode(errors="replace")


def run_lengths(region: Tensor) -> dict[str, list[int]]:
    """A region as COCO's run lengths: column by column, the first run outside of it.

    Args:
        region: (H, W) bool.

    Example:
        >>> import torch
        >>> run_lengths(torch.tensor([[True, False], [True, True]]))
        {'size': [2, 2], 'counts': [0, 2, 1, 1]}

    References:
        Lin et al. 2014, "Microsoft COCO", and the format of its results.
    """
    flat = region.numpy().flatten(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    counts = np.diff([0, *edges.tolist(), region.numel()])
    return {"size": list(region.shape), "counts": counts.tolist()}
