"""`import saliencykit` is cheap: a fresh interpreter gets the core and nothing heavy."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median

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
PROBE = """
import json, sys, time
import torch
before, wall, cpu = set(sys.modules), time.perf_counter(), time.process_time()
import saliencykit
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps({"new": sorted(set(sys.modules) - before), "all": sorted(sys.modules), "wall": wall, "cpu": cpu}))
"""


def fresh(code):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True, timeout=300
    ).stdout


def test_a_fresh_import_brings_nothing_heavy_and_takes_no_time(record_property):
    runs = [json.loads(fresh(PROBE)) for _ in range(3)]
    roots = {module.split(".")[0] for module in runs[0]["new"]}
    assert not roots & set(HEAVY)
    rooms = ("alternatives", "terms", "maskers", "metrics", "black_boxes", "registry", "explaining", "testing")
    assert not {f"saliencykit.{room}" for room in rooms} & set(runs[0]["all"])
    cpu, wall = median(run["cpu"] for run in runs), median(run["wall"] for run in runs)
    record_property("seconds_added_to_import_torch", {"cpu": cpu, "wall": wall})
    print(f"import saliencykit after import torch: {cpu:.3f} s CPU, {wall:.3f} s wall (median of 3)")
    assert cpu < 0.3  # CPU time, because other processes may be busy


def test_the_public_names_are_loaded_when_they_are_used():
    loaded = fresh(
        "import sys, saliencykit\n"
        "saliencykit.TorchBlackBox\n"
        "print('saliencykit.black_boxes.torch_module' in sys.modules, 'torchvision' in sys.modules, 'timm' in sys.modules)"
    )
    assert loaded.split() == ["True", "False", "False"]
