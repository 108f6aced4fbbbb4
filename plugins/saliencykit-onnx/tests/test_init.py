"""The plugin: its hooks, its names in texts and on the command line, and that importing it is
cheap.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
import saliencykit_onnx
import torch
from saliencykit_onnx.onnx_black_box import OnnxBlackBox

from saliencykit import InputError, explain
from saliencykit.registry.coerce import as_black_box

BROKEN = "raise RuntimeError('out of order')\n"
TWIN = """
from saliencykit import hookimpl
from saliencykit.testing import PlantedEvidence

@hookimpl
def provide_black_boxes():
    return {"onnx": PlantedEvidence}
"""


def run(*words, folder=None, **more):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder or ""), os.environ.get("PYTHONPATH", "")]),
        "COLUMNS": "200",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "saliencykit", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, **more)


def install(folder, name, source):
    """A distribution with one plugin, as pip leaves it."""
    info = Path(folder) / f"{name}_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[saliencykit]\n{name} = {name}_plugin\n")
    (Path(folder) / f"{name}_plugin.py").write_text(source)


def test_names_in_texts(dynamic):
    for text in (
        f"onnx:{dynamic},mean=(0.5,0.4,0.3),std=0.25",
        f"onnx/onnx:{dynamic},mean=(0.5,0.4,0.3),std=0.25,max_batch_size=8",
    ):
        black_box = as_black_box(text)
        assert isinstance(black_box, OnnxBlackBox)
        assert black_box.mean == (0.5, 0.4, 0.3)
        assert black_box.std == 0.25
    assert black_box.max_batch_size == 8
    with pytest.raises(InputError, match="onnx/onnx has no option 'color'"):
        as_black_box(f"onnx:{dynamic},color=rgb")


def test_paths_and_sessions(dynamic):
    session = onnxruntime.InferenceSession(str(dynamic), providers=["CPUExecutionProvider"])
    for model in (dynamic, str(dynamic), session):
        assert isinstance(as_black_box(model), OnnxBlackBox)
        answer = explain(model, torch.rand(3, 16, 16), 1, masker="rise:samples=8")
        assert "OnnxBlackBox" in answer.provenance["model"]
    assert saliencykit_onnx.wrap_model("model.pt") is None
    assert saliencykit_onnx.wrap_model(torch.nn.Flatten()) is None
    assert saliencykit_onnx.wrap_model(onnxruntime.SessionOptions()) is None


def test_importing_it_and_querying_for_its_names_loads_nothing_heavy():
    code = (
        "import sys, saliencykit_onnx as it; it.provide_black_boxes(); it.wrap_model('x'); "
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"onnxruntime", "onnx", "torchvision", "matplotlib"} & set(done.stdout.split())


def test_the_command_line_explains_a_file_beside_broken_plugins(dynamic, tmp_path):
    install(tmp_path, "broken", BROKEN)
    install(tmp_path, "twin", TWIN)
    listed = run("plugins", "list", folder=tmp_path)
    assert listed.returncode == 0
    assert "not loaded: RuntimeError: out of order" in " ".join(listed.stdout.split())
    assert "onnx/onnx" in listed.stdout
    assert "twin/onnx" in listed.stdout
    done = run("explain", "--json", "--model", f"onnx/onnx:{dynamic},mean=0,std=1", "--masker",
        "rise:samples=20",
               "--output", tmp_path / "out", folder=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    assert (tmp_path / "out" / "overlay-0000.png").exists()
    ambiguous = run("explain", "--model", f"onnx:{dynamic}", folder=tmp_path)
    assert ambiguous.returncode == 2
    assert (
        "several plugins provide the model 'onnx'; write one of onnx/onnx, twin/onnx"
        in " ".join(ambiguous.stderr.split())
    )


def test_a_damaged_file_is_one_line_on_the_command_line(tmp_path):
    (tmp_path / "damaged.onnx").write_text("no model")
    done = run("explain", "--model", tmp_path / "damaged.onnx", "--output", tmp_path / "out")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert "cannot be opened as an ONNX model" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
