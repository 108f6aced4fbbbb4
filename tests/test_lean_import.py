"""`import saliencykit` is cheap: a fresh interpreter gets the core and nothing heavy."""

import json
import subprocess
import sys
from pathlib import Path

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
before, cpu = set(sys.modules), time.process_time()
import saliencykit
cpu = time.process_time() - cpu
new = sorted(set(sys.modules) - before)
from saliencykit import core
for name in core.__all__:
    getattr(core, name)
core = sorted(set(sys.modules) - before)
saliencykit.TorchBlackBox
later = sorted(set(sys.modules) - before)
from saliencykit.demo import demo_image
saliencykit.explain("demo", demo_image())
explained = sorted(set(sys.modules) - before)
print(json.dumps({"new": new, "core": core, "later": later, "explained": explained, "cpu": cpu}))
"""


def fresh_import():
    """What a fresh interpreter loads, and how long it takes."""
    command = [sys.executable, "-c", PROBE]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, check=True, timeout=300)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def imported():
    return fresh_import()


def test_a_fresh_import_brings_nothing_heavy(imported):
    assert not {module.split(".")[0] for module in imported["new"]} & set(HEAVY)
    assert not {f"saliencykit.{package}" for package in PACKAGES} & set(imported["new"])


def test_the_contracts_bring_nothing_heavy(imported):
    assert "saliencykit.core.masker" in imported["core"]
    assert not {module.split(".")[0] for module in imported["core"]} & set(HEAVY)


def test_the_public_names_are_loaded_when_they_are_used(imported):
    assert "saliencykit.black_boxes.torch_module" in imported["later"]
    assert not {"torchvision", "timm", "captum"} & set(imported["later"])


def test_it_takes_no_time(imported, record_property):
    # CPU time, because other processes may be busy; once more where it was too long
    cpu = imported["cpu"] if imported["cpu"] < 0.3 else fresh_import()["cpu"]
    record_property("seconds_added_to_import_torch", cpu)
    assert cpu < 0.3


def test_help_and_wrong_options_load_no_torch():
    program = (
        "import sys; from saliencykit.cli.main import app\n"
        "for arguments in (['--help'], ['--version'], ['fit', '--help'], ['fit', '--no']):\n"
        "    try: app(arguments)\n"
        "    except SystemExit: pass\n"
        "    if 'torch' in sys.modules or 'numpy' in sys.modules: sys.exit(f'{arguments}')"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_first_explanation_loads_no_compiler_and_no_torchvision(imported):
    """They take two seconds, in every command."""
    assert "saliencykit.explanation.explain_images" in imported["explained"]
    assert not {"torch._dynamo", "torchvision"} & set(imported["explained"])
