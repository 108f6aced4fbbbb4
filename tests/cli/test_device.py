import os

import pytest
import torch

from saliencykit.cli import device
from saliencykit.cli.device import black_box_on_device, use_idle_cores
from saliencykit.core.errors import InputError


def test_a_model_by_name_runs_on_the_cpu():
    assert black_box_on_device("demo", "cpu").device == torch.device("cpu")


def test_an_unavailable_device_is_refused_with_what_is_available(monkeypatch):
    with pytest.raises(InputError, match="--device cuda:99 cannot be used"):
        black_box_on_device("demo", "cuda:99")
    monkeypatch.setattr(device, "best_device", lambda: "cpu")
    with pytest.raises(InputError, match=r"\. Available here: cpu\.$"):
        black_box_on_device("demo", "gpu")


def test_a_busy_machine_gets_fewer_threads(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (1000.0, 0, 0))
    try:
        use_idle_cores()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
