"""Processes: this process among those of one launch."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import final

import torch

from saliencykit.core.errors import InputError

_TIMEOUT = timedelta(days=30)  # other processes may have slower machines or harder images


@final
@dataclass(frozen=True)
class Processes:
    """This process among those that `accelerate launch` or torchrun started.

    Attributes:
        rank: Process 0 merges the rows and writes the table.
        count: The number of processes.
        wait: Returns when all have called it.
    """

    rank: int = 0
    count: int = 1
    wait: Callable[[], object] = lambda: None

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
        try:
            from accelerate import PartialState
        except ImportError:
            raise InputError(
                "several processes need accelerate; pip install 'saliencykit[train]'."
            ) from None
        state = PartialState(cpu=device.type == "cpu", timeout=_TIMEOUT)
        if state.num_processes != count:  # each process would explain all images
            raise InputError(
                f"this launch has {count} processes, and accelerate was set up for "
                f"{state.num_processes} before this call; call this first, or make "
                "PartialState(cpu=True) where there is no GPU."
            )
        return Processes(state.process_index, state.num_processes, state.wait_for_everyone)
