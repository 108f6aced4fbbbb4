"""Engines: other people's clusters, which run the shards of a job wherever a worker is free.

A new engine is one function with the arguments and results of `ray_engine`, and a line in
`ENGINES`.
"""

import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar, final
from uuid import uuid4

import torch

from saliencykit.core.checks import reason_of
from saliencykit.core.errors import InputError
from saliencykit.core.optional_packages import required

_T = TypeVar("_T")
Shard: TypeAlias = tuple[int, int]
_PER_WORKER = 8  # shards: a dead node loses little, and no worker waits long for the last one
_RETRIES = 5  # of a shard whose worker was killed
_PATIENCE = 5.0  # seconds until an address does not answer
_ADDRESS = re.compile(r"(?:ray://)?\[?([^\[\]/]+?)\]?:(\d+)")


@final
@dataclass(frozen=True)
class ShardResult(Generic[_T]):
    """What became of a shard.

    Attributes:
        shard: Its number and the number of all.
        value: What the job returned.
        error: Why it failed, also when repeated; None if it did not.
    """

    shard: Shard
    value: _T | None = None
    error: Exception | None = None


def ray_engine(
    job: Callable[[Shard], _T],
    *,
    num_workers: int | None = None,
    address: str | None = None,
    gpus: bool = False,
    paths: Sequence[Path] = (),
    files: int = 0,
) -> Iterator[ShardResult[_T]]:
    """Run a job for each shard as a Ray task of one core, many more shards than workers.

    Ray repeats a shard whose worker or node dies.

    Args:
        job: From a shard, (3, 64), to its result; can be pickled.
        num_workers: Shards at a time, >= 1; None: one per core, or GPU, of the cluster.
        address: Of a running cluster: `auto`, `10.0.0.1:6379`, `ray://10.0.0.1:10001`. None:
            `RAY_ADDRESS`, or else a cluster of this machine, for the time of the call.
        gpus: Use the cluster's GPUs, if it has any, one for each worker.
        paths: Files and directories that every node must see.
        files: Of data in files of many images, how many: a shard has whole files, where there are
            enough for all workers.

    Yields:
        The results as they come.

    Raises:
        InputError: Ray is missing, there is no cluster at the address, or a node does not see a
            path.
    """
    ray = required("ray", "--engine ray", "ray")
    owns = not ray.is_initialized()
    if owns:
        _connect(ray, address or os.environ.get("RAY_ADDRESS") or "local", num_workers)
    try:
        _refuse_unseen(ray, paths)
        there = ray.cluster_resources()
        kind = "GPU" if gpus and there.get("GPU") else "CPU"
        workers = num_workers or int(there.get(kind, 1))
        resources = {"num_cpus": 1, "num_gpus": int(kind == "GPU")}
        task = ray.remote(max_retries=_RETRIES, **resources)(_run)
        given, count = ray.put((job, sys.argv)), workers * _PER_WORKER
        count = min(count, max(files, workers)) if files else count
        shards, waiting = iter([(number, count) for number in range(count)]), dict[Any, Shard]()
        while True:
            while len(waiting) < workers and (shard := next(shards, None)) is not None:
                waiting[task.remote(given, shard)] = shard
            if not waiting:
                return
            (ready, *_), _rest = ray.wait(list(waiting))
            yield _result(ray, ready, waiting.pop(ready))
    finally:
        if owns:
            ray.shutdown()


ENGINES: dict[str, Callable[..., Iterator[ShardResult[Any]]]] = {"ray": ray_engine}
"""By name, the functions that run shards on a cluster."""


def _run(given: tuple[Callable[[Shard], _T], list[str]], shard: Shard) -> _T:
    """A job in a worker's process: with one thread, and the command line of this process."""
    job, sys.argv = given
    torch.set_num_threads(1)
    return job(shard)


def _result(ray: Any, ready: Any, shard: Shard) -> ShardResult[Any]:
    try:
        return ShardResult(shard, ray.get(ready))
    except ray.exceptions.RayTaskError as error:
        own = error.cause if isinstance(error.cause, Exception) else error
        return ShardResult(shard, error=own)
    except ray.exceptions.RayError as error:  # the worker died, again and again
        return ShardResult(shard, error=error)


def _connect(ray: Any, address: str, num_workers: int | None) -> None:
    """Connect to a cluster, or start one of this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address == "local":
            ray.init("local", num_cpus=num_workers, include_dashboard=False, **quiet)
            return
        if named := _ADDRESS.fullmatch(address):  # Ray itself would wait for minutes
            socket.create_connection((named[1], int(named[2])), _PATIENCE).close()
        ray.init(address, **quiet)
    except Exception as error:
        advice = (
            "check the address, start a cluster with `ray start --head`, or leave --ray-address "
            "out for a cluster of this machine"
        )
        raise InputError(
            f"no Ray cluster answers at {address!r} ({reason_of(error)}); {advice}."
        ) from error


def _refuse_unseen(ray: Any, paths: Sequence[Path]) -> None:
    """Refuse what is on this machine only; each other node of the cluster looks."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    own = ray.get_runtime_context().get_node_id()
    others = {node["NodeID"]: node["NodeManagerAddress"] for node in nodes if node["NodeID"] != own}
    # a directory of the same name is another one
    directories = [path for path in paths if path.is_dir() and os.access(path, os.W_OK)]
    markers = {path / f".visible-{uuid4().hex}": path for path in directories if others}
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    try:
        for marker in markers:
            marker.touch()
        look = ray.remote(num_cpus=0)(_unseen)
        wanted = [*paths, *markers]
        found = {
            node: look.options(scheduling_strategy=strategy(node, soft=False)).remote(wanted)
            for node in others
        }
        for node, unseen in found.items():
            for path in ray.get(unseen):
                raise InputError(
                    f"{markers.get(path, path)} is on this machine only: the node {others[node]} "
                    "of the Ray cluster does not see it. Use a disk that all nodes share, or run "
                    "without --ray-address on this machine alone."
                )
    finally:
        for marker in markers:
            marker.unlink(missing_ok=True)


def _unseen(paths: list[Path]) -> list[Path]:
    return [path for path in paths if not path.exists()]
