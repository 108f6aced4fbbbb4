"""`import saliencykit` is cheap: a fresh interpreter gets the core and nothing heavy."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

HEAVY = (
    "torchvision",
    "timm",
    "captum",
    "skimage",
    "PIL",
    "matplotlib",
    "scipy",
    "typer",
    "rich",
    "safetensors",
    "accelerate",
    "jinja2",
)
PACKAGES = ("alternatives", "terms", "maskers", "metrics", "black_boxes", "registry", "testing")
PROBE = """
import json, sys, time
import torch
before, wall, cpu = set(sys.modules), time.perf_counter(), time.process_time()
import saliencykit
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
new = sorted(set(sys.modules) - before)
from saliencykit import core
for name in core.__all__:
    getattr(core, name)
core = sorted(set(sys.modules) - before)
saliencykit.TorchBlackBox
later = sorted(set(sys.modules) - before)
print(json.dumps({"new": new, "core": core, "later": later, "wall": wall, "cpu": cpu}))
"""


@pytest.fixture(scope="module")
def runs():
    """Three fresh interpreters."""
    command = [sys.executable, "-c", PROBE]
    root = Path(__file__).parents[1]
    return [
        json.loads(
            subprocess.run(command, cwd=root, capture_output=True, check=True, timeout=300).stdout
        )
        for _ in range(3)
    ]


def test_a_fresh_import_brings_nothing_heavy(runs):
    assert not {module.split(".")[0] for module in runs[0]["new"]} & set(HEAVY)
    assert not {f"saliencykit.{package}" for package in PACKAGES} & set(runs[0]["new"])


def test_the_contracts_bring_nothing_heavy(runs):
    assert "saliencykit.core.masker" in runs[0]["core"]
    assert not {module.split(".")[0] for module in runs[0]["core"]} & set(HEAVY)


def test_the_public_names_are_loaded_when_they_are_used(runs):
    assert "saliencykit.black_boxes.torch_module" in runs[0]["later"]
    assert not {"torchvision", "timm", "captum"} & set(runs[0]["later"])


def test_it_takes_no_time(runs, record_property):
    cpu, wall = median(run["cpu"] for run in runs), median(run["wall"] for run in runs)
    record_property("seconds_added_to_import_torch", {"cpu": cpu, "wall": wall})
    print(
        f"import saliencykit after import torch: {cpu:.3f} s CPU, {wall:.3f} s wall (median of 3)"
    )
    assert cpu < 0.3  # CPU time, because other processes may be busy


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["fit", "--help"], ["fit", "--no"]]
)
def test_help_and_wrong_options_load_no_torch(arguments):
    program = (
        "import sys; from saliencykit.cli.main import app\n"
        f"try: app({arguments})\n"
        "except SystemExit: sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_first_explanation_loads_no_compiler_and_no_torchvision():
    """They take two seconds, in every command."""
    program = (
        "import sys; from saliencykit import explain; from saliencykit.demo import demo_image\n"
        "explain('demo', demo_image())\n"
        "sys.exit('torch._dynamo' in sys.modules or 'torchvision' in sys.modules)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
