"""The exported graph where torch is not installed: the how-to's own example, run with every import
of torch refused.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from saliencykit.demo import demo_image

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "export.md"
REFUSE = """
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "saliencykit", "onnx"):
            raise ModuleNotFoundError(f"{name} is not there")
sys.meta_path.insert(0, Refused())
"""
REPORT = """
import json
assert "torch" not in sys.modules
print(json.dumps({"label": label, "probability": probability, "mask": mask.tolist()}))
"""


def examples() -> list[str]:
    """The blocks of the page: one writes the graph, one runs it."""
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_it_is_about_twenty_lines():
    assert len([line for line in examples()[1].splitlines() if line.strip()]) <= 20


@pytest.mark.slow
def test_the_example_runs_without_torch_and_says_what_torch_says(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    writes, runs = examples()
    page: dict[str, Any] = {"__name__": "page"}
    exec(compile(writes, "docs/how-to/export.md", "exec"), page)
    masker = page["masker"]
    demo_image().save(tmp_path / "photo.png")
    line = 'photo = Image.new("RGB", (640, 480), (90, 120, 60))'
    assert line in runs
    code = REFUSE + runs.replace(line, 'photo = Image.open("photo.png")') + REPORT
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    small = demo_image().convert("RGB").resize((80, 80), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.asarray(small, dtype=np.float32) / 255).permute(2, 0, 1)[None]
    logits, mask = masker.predict(pixels)
    assert found["label"] == int(logits.argmax())
    assert found["probability"] == pytest.approx(float(logits.softmax(1).max()), abs=1e-4)
    assert np.abs(np.asarray(found["mask"]) - mask[0, 0].numpy()).max() < 1e-3
    with Image.open(tmp_path / "mask.png") as shown:
        assert shown.size == demo_image().size
