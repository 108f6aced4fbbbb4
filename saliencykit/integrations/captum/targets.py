"""Captum's targets, in all their forms, as labels."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.output import Output
from saliencykit.core.types import Labels

_WHO = "MaskerAttribution.attribute"


def labels_of(target: Any, sizes: Sequence[int], count: int, output: Output = "softmax") -> Labels:
    """One label per row: the place of the output that the target names, among all outputs in a
    line.

    Args:
        target: As for Captum: a class index for all rows (int, or a tensor with one number); a
            tuple of indices for outputs of several dimensions; a tensor (B,) or a list with an
            index or a tuple per row; None if there is one output only.
        sizes: The shape of one row's output; () and (1,) are a single output, the
            second of a sigmoid's two classes, or a score.
        count: B.
        output: What a column means.

    Raises:
        InputError: The target names no output, or more than one.

    Example:
        >>> labels_of([(1, 0), (-1, 2)], (2, 3), 2).tolist(), labels_of(None, (1,), 2).tolist()
        ([3, 5], [1, 1])
    """
    single, only = prod(sizes) == 1, 0 if output == "score" else 1
    if target is None:
        if not single:
            raise InputError(
                f"{_WHO}: the model has outputs of shape (B, {_shape(sizes)}); say which one with "
                "target=."
            )
        return torch.full((count,), only, device="cpu")
    rows = _rows(target, count)
    places = [_place(row, sizes) for row in rows]
    if single:
        places = [only] * len(places)
    return torch.tensor(
        places * (count if len(places) == 1 else 1), dtype=torch.int64, device="cpu"
    )


def _rows(target: Any, count: int) -> list[Any]:
    if isinstance(target, Tensor):
        if target.is_floating_point() or target.dtype == torch.bool or target.ndim > 1:
            raise InputError(
                f"{_WHO}: a tensor of targets is whole numbers of shape (B,); got {target.dtype} "
                f"{tuple(target.shape)}."
            )
        rows = target.reshape(-1).tolist()
        several = len(rows) != 1
    elif isinstance(target, list):
        rows, several = target, True
    else:
        return [target]
    if several and len(rows) != count:
        raise InputError(
            f"{_WHO} got {len(rows)} targets for {count} rows; give one for all, or one per row."
        )
    return list(rows)


def _place(index: Any, sizes: Sequence[int]) -> int:
    steps = index if isinstance(index, tuple) else (index,)
    for step in steps:
        if isinstance(step, bool) or not hasattr(step, "__index__"):
            raise InputError(
                f"{_WHO}: a target must be an index or a tuple of indices; got {name_of(step)} "
                f"{step!r}."
            )
    if len(steps) != len(sizes):
        raise InputError(
            f"{_WHO}: target {index!r} names "
            f"{'no' if len(steps) > len(sizes) else 'more than one'} output of a model with "
            f"outputs of shape (B{', ' if sizes else ''}{_shape(sizes)}); give {len(sizes)} "
            "indices."
        )
    place = 0
    for step, size in zip((int(step.__index__()) for step in steps), sizes, strict=True):
        if not -size <= step < size:
            raise InputError(
                f"{_WHO}: target {index!r} is outside of outputs of shape (B, {_shape(sizes)})."
            )
        place = place * size + step % size
    return place


def _shape(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))
