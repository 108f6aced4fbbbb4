"""Processes: this process among those of one launch."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import final

import torch

from saliencykit.core.errors import InputError
from saliencykit.core.optional_packages import required

_TIMEOUT = timedelta(days=30)  # other processes may have slower machines or harder images


@final
@dataclass(frozen=True)
class Processes:
    """This process among those that `accelerate launch` or torchrun started.

    Attributes:
        rank: Its number among them, from 0.
        count: The number of processes.
        wait: Returns when all have called it.
        is_shard: No process waits for another; each has a directory of its own.
    """

    rank: int = 0
    count: int = 1
    wait: Callable[[], object] = lambda: None
    is_shard: bool = False

    @property
    def leads(self) -> bool:
        """Whether this process prepares the directory, merges the rows and writes the table."""
        return self.is_shard or self.rank == 0

    @staticmethod
    def of_shard(shard: tuple[int, int] | str) -> "Processes":
        """One of several processes that do not know each other.

        Args:
            shard: Number and count, (3, 64) or `3/64`, numbered from 0; `auto`: of the job array
                of Slurm or AWS Batch; `auto/64` for one whose size is unknown, as in Kubernetes.

        Raises:
            InputError: It is none of these, or there is no job array.
        """
        text = shard if isinstance(shard, str) else "/".join(map(str, shard))
        if text.startswith("auto"):
            text = _of_job_array(text)
        numbers = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        rank, count = map(int, numbers.groups()) if numbers else (0, 0)
        if rank >= count:
            raise InputError(
                f"shard={shard!r}: a number and a count such as 3/64, from 0/64 to 63/64; or auto, "
                "or auto/64, in a job array."
            )
        return Processes(rank, count, is_shard=True)

    @staticmethod
    def of_this_launch(device: torch.device) -> "Processes":
        """Read from the environment; a single process needs no accelerate.

        Args:
            device: The device of this process, which decides the communication backend.

        Raises:
            InputError: There are several processes, and accelerate is missing or was set up for
                one before.
        """
        count = int(os.environ.get("WORLD_SIZE") or 1)
        if count < 2:
            return Processes()
        accelerate = required("accelerate", "a launch of several processes", "train")
        state = accelerate.PartialState(cpu=device.type == "cpu", timeout=_TIMEOUT)
        if state.num_processes != count:  # each process would explain all images
            raise InputError(
                f"this launch has {count} processes, and accelerate was set up for "
                f"{state.num_processes} before this call; call this first, or make "
                "PartialState(cpu=True) where there is no GPU."
            )
        return Processes(state.process_index, state.num_processes, state.wait_for_everyone)


def _of_job_array(shard: str) -> str:
    """The number and the count, `3/64`, of this job in its array."""

    def number(name: str, default: int | None = None) -> int | None:
        return int(text) if (text := os.environ.get(name, "")).isdecimal() else default

    index, count = number("SLURM_ARRAY_TASK_ID"), number("SLURM_ARRAY_TASK_COUNT")
    if index is not None:  # arrays may start at 1, and count by more
        first, step = number("SLURM_ARRAY_TASK_MIN", 0), number("SLURM_ARRAY_TASK_STEP", 1)
        index = (index - (first or 0)) // (step or 1)
    for name in ("JOB_COMPLETION_INDEX", "AWS_BATCH_JOB_ARRAY_INDEX"):
        if index is None:
            index, count = number(name), number("AWS_BATCH_JOB_ARRAY_SIZE")
    given = shard.removeprefix("auto").removeprefix("/") or count
    if index is None or given is None:
        raise InputError(
            f"shard={shard!r}: there is no SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX or "
            "AWS_BATCH_JOB_ARRAY_INDEX, or the size of the array is unknown; write --shard 3/64, "
            "or auto/64 for an array of 64."
        )
    return f"{index}/{given}"
