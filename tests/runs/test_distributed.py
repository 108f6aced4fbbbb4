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


@pytest.mark.parametrize(
    ("shard", "environment", "wanted"),
    [
        ((3, 64), {}, (3, 64)),
        ("0/1", {}, (0, 1)),
        ("auto", {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "64"}, (3, 64)),
        (
            "auto",
            {
                "SLURM_ARRAY_TASK_ID": "5",
                "SLURM_ARRAY_TASK_COUNT": "3",
                "SLURM_ARRAY_TASK_MIN": "1",
                "SLURM_ARRAY_TASK_STEP": "2",
            },
            (2, 3),
        ),
        ("auto", {"AWS_BATCH_JOB_ARRAY_INDEX": "1", "AWS_BATCH_JOB_ARRAY_SIZE": "2"}, (1, 2)),
        ("auto/8", {"JOB_COMPLETION_INDEX": "7"}, (7, 8)),
    ],
)
def test_a_shard_is_numbered_by_the_caller_or_its_job_array(
    monkeypatch, shard, environment, wanted
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    processes = Processes.of_shard(shard)
    assert (processes.rank, processes.count, processes.leads) == (*wanted, True)
    processes.wait()


@pytest.mark.parametrize("shard", [(4, 4), (-1, 4), (1,), "3", "3 of 4", "auto", "auto/4", "1/0"])
def test_other_shards_are_refused(shard):
    with pytest.raises(InputError, match="3/64"):
        Processes.of_shard(shard)
