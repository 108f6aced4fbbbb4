"""Engines: the shards of a job on a cluster, with workers that die and nodes that see no data."""

import importlib
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.runs.engines import ray_engine


def facts(shard):
    return torch.get_num_threads(), sys.argv[0], os.getpid()


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'saliencykit\[ray\]'"):
        next(ray_engine(facts))


def test_an_address_that_does_not_answer_is_named_at_once():
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    started = time.monotonic()
    for each in (address, f"ray://{address}"):
        with pytest.raises(
            InputError, match=r"no Ray cluster answers at .*leave --ray-address out"
        ):
            next(ray_engine(facts, address=each))
    assert time.monotonic() - started < 30


class Fails:
    """Kills its worker the first time, and raises for shard 3."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, shard):
        if shard[0] == 3:
            raise InputError("no such model")
        if shard[0] in (0, 5):
            try:
                (self.folder / str(shard[0])).touch(exist_ok=False)
            except FileExistsError:
                return "again"
            os.kill(os.getpid(), signal.SIGKILL)
        return facts(shard)


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_an_error_comes_with_its_shard(tmp_path):
    pytest.importorskip("ray")
    results = {r.shard: r for r in ray_engine(Fails(tmp_path), num_workers=2)}
    assert sorted(results) == [(k, 16) for k in range(16)]
    assert [type(results.pop((3, 16)).error), *(results.pop((k, 16)).value for k in (0, 5))] == [
        InputError, "again", "again"
    ]  # fmt: skip
    assert {r.value[:2] for r in results.values()} == {(1, sys.argv[0])}
    assert len({r.value[2] for r in results.values()} - {os.getpid()}) >= 2


@pytest.mark.slow
def test_data_that_another_node_does_not_see_are_refused(tmp_path):
    ray = pytest.importorskip("ray")
    cluster_utils = importlib.import_module("ray.cluster_utils")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        ray.init(cluster.address, log_to_driver=False)
        own = Path(f"/proc/self/task/{threading.get_native_id()}")  # of this process only
        with pytest.raises(InputError, match=r"is on this machine only: the node .* does not see"):
            next(ray_engine(facts, paths=[own]))
        assert len(list(ray_engine(facts, num_workers=1, paths=[tmp_path]))) == 8
        assert not list(tmp_path.iterdir())
    finally:
        ray.shutdown()
        cluster.shutdown()
