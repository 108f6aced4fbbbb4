import errno
import json
import math
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.training.fit_checkpoint import load_state, save_state

FACTS = {
    "done": 7,
    "area_weight": 0.1234567890123,
    "smoothed_area": math.inf,
    "validations": [],
    "stopped": False,
    "schedule": {"lr": "0.003"},
    "gates": [{"step": 5, "score": 0.5}],
}


def made(seed=0, width=4):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Linear(width, 2))
    return network, torch.optim.Adam(network.parameters(), lr=1e-3)


def step(network, optimizer, skip=()):
    for name, parameter in network.named_parameters():
        parameter.grad = None if name in skip else torch.ones_like(parameter) * 0.1
    optimizer.step()


def same(one, other):
    return all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_there_and_back(tmp_path):
    network, optimizer = made()
    step(network, optimizer, skip=("2.weight",))  # a weight that was not trained has no state
    network[1].running_mean.add_(0.5)
    best = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    path = tmp_path / "new" / "state.safetensors"
    save_state(path, network, optimizer, FACTS, best=best)
    other, again = made(seed=1)
    facts, kept = load_state(path, other, again)
    found = kept["best"]
    assert same(network, other)
    assert {key: facts[key] for key in FACTS} == FACTS
    assert found.keys() == best.keys()
    assert all(torch.equal(found[name], best[name]) for name in best)
    for _ in range(2):  # and on with the same moments
        step(network, optimizer)
        step(other, again)
    assert same(network, other)
    save_state(path, network, optimizer, FACTS)
    assert load_state(path, other, again)[1] == {"best": None, "before": None}


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", None])
def test_a_damaged_file(tmp_path, content):
    network, optimizer = made()
    path = tmp_path / "state.safetensors"
    save_state(path, network, optimizer, FACTS)
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    with pytest.raises(InputError, match=r"state.safetensors'? is .*\. Delete it to start over"):
        load_state(path, network, optimizer)


def test_a_file_of_something_else(tmp_path):
    path = tmp_path / "state.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="is damaged"):
        load_state(path, *made())


def test_another_format(tmp_path):
    network, optimizer = made()
    path = tmp_path / "state.safetensors"
    save_state(path, network, optimizer, FACTS)
    save_file(load_file(path), path, metadata={"saliencykit": json.dumps({"format": 99} | FACTS)})
    with pytest.raises(InputError, match="has format 99; this version reads 1"):
        load_state(path, network, optimizer)


def test_another_network(tmp_path):
    path = tmp_path / "state.safetensors"
    save_state(path, *made(), FACTS)
    with pytest.raises(InputError, match="belongs to another network"):
        load_state(path, *made(width=5))


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch, broken):
    network, optimizer = made()
    path = tmp_path / "state.safetensors"
    save_state(path, network, optimizer, FACTS)
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, broken, full)
    step(network, optimizer)
    with pytest.raises(
        SaliencyKitError,
        match=r"cannot be written: No space left on device. Finished results",
    ):
        save_state(path, network, optimizer, FACTS | {"done": 8})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SaliencyKitError, match="cannot be written"):
        save_state(tmp_path / "file" / "x", *made(), FACTS)
