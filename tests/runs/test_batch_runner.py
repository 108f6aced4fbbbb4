import pytest
import torch

from saliencykit.core.errors import DeviceMemoryError
from saliencykit.runs.batch_runner import run_batch

CPU = torch.device("cpu")


def run(work, count, on_failure=lambda row, error: str(error), **options):
    return run_batch(work, range(count), on_failure, device=CPU, who="Rise", **options)


def test_a_batch_that_succeeds_is_one_call():
    calls = []

    def work(rows):
        calls.append(list(rows))
        return [10 * row for row in rows]

    assert run(work, 3) == [0, 10, 20]
    assert calls == [[0, 1, 2]]


def test_one_image_that_fails_costs_no_other():
    def work(rows):
        if 1 in rows:
            raise ValueError("too bright")
        return [10 * row for row in rows]

    assert run(work, 3) == [0, "too bright", 20]


def test_what_fails_only_together_succeeds():
    def work(rows):
        if len(rows) > 1:
            raise RuntimeError("sizes differ")
        return list(rows)

    assert run(work, 3) == [0, 1, 2]


def test_too_little_memory_stops_with_what_to_do():
    def work(rows):
        raise MemoryError

    with pytest.raises(
        DeviceMemoryError, match=r"Rise needs more memory than cpu .* batch of 3 .*--batch-size 1"
    ):
        run(work, 3)
    with pytest.raises(DeviceMemoryError, match="for one image; use smaller images"):
        raise run(work, 1, on_failure=lambda row, error: error)[0]


def test_where_wanted_a_batch_too_large_for_memory_is_split():
    def work(rows):
        if len(rows) > 1:
            raise MemoryError
        return list(rows)

    assert run(work, 3, split=True) == [0, 1, 2]
    with pytest.raises(DeviceMemoryError):
        run(work, 3)

    def too_large(rows):
        if 1 in rows:
            raise MemoryError
        return list(rows)

    assert run(too_large, 3, lambda row, error: "too large", split=True) == [0, "too large", 2]
