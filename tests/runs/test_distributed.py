import sys

import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.runs.distributed import Processes


@pytest.mark.parametrize("size", [None, "", "1"])
def test_one_process_needs_no_accelerate(monkeypatch, size):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if size is not None:
        monkeypatch.setenv("WORLD_SIZE", size)
    alone = Processes.of_this_launch(torch.device("cpu"))
    assert (alone.rank, alone.count) == (0, 1)
    alone.wait()


def test_several_processes_need_it(monkeypatch):
    """That they share the work is in `test_evaluating.py`."""
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="pip install"):
        Processes.of_this_launch(torch.device("cpu"))
