"""What the package requires: a missing extra is named, on one line, and plugins require the same
versions.
"""

import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from saliencykit import explain, explain_dataset, explain_frames, fit, list_models
from saliencykit.app import explain_interactive, launch_app
from saliencykit.core.errors import SaliencyKitError
from saliencykit.demo import demo_black_box, demo_image
from saliencykit.maskers import AttributionMasker
from saliencykit.registry import as_masker
from saliencykit.runs.engines import ray_engine

MODULES = [
    *("timm", "transformers", "captum", "accelerate", "pyarrow", "ray", "upath", "av"),
    *("hypothesis", "gradio", "ipywidgets", "tqdm", "onnx", "onnxscript", "onnxruntime"),
]
AGAIN = ("saliencykit.testing.strategies", "saliencykit.integrations.captum.masker_attribution")


def take_away(patch):
    """Make the optional packages and what they brought look as if they were not installed."""
    for name in [*MODULES, *sys.modules]:
        if name.partition(".")[0] in MODULES:
            patch.setitem(sys.modules, name, None)
    for name in AGAIN:
        patch.delitem(sys.modules, name, raising=False)


CALLS = {
    "app": [lambda black_box, folder: launch_app()],
    "notebook": [
        lambda black_box, folder: explain_interactive(black_box, demo_image()),
        lambda black_box, folder: explain(
            black_box, demo_image(), masker="gradient", progress=True
        ),
    ],
    "timm": [
        lambda black_box, folder: explain("timm:resnet18", demo_image()),
        lambda black_box, folder: list_models("timm:*"),
    ],
    "transformers": [lambda black_box, folder: explain("transformers:a/b", demo_image())],
    "captum": [
        lambda black_box, folder: explain(
            black_box, demo_image(), masker=AttributionMasker(method="Saliency")
        ),
        lambda black_box, folder: importlib.import_module(AGAIN[1]),
    ],
    "train": [lambda black_box, folder: fit(black_box, folder / "photos")],
    "data": [
        lambda black_box, folder: explain_dataset(
            black_box, folder / "t.parquet", output_dir=folder / "run"
        ),
    ],
    "ray": [lambda black_box, folder: next(ray_engine(torch.add))],
    "remote": [lambda black_box, folder: explain(black_box, "s3://bucket/a.png")],
    "video": [lambda black_box, folder: list(explain_frames(black_box, folder / "c.mp4"))],
    "testing": [lambda black_box, folder: importlib.import_module(AGAIN[0])],
    "onnx": [
        lambda black_box, folder: as_masker("demo").bind(black_box).export_onnx(folder / "a.onnx"),
    ],
}


ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def test_every_extra_is_tried():
    assert set(CALLS) == set(EXTRAS) - {"all", "docs", "dev"}


def test_plugins_and_their_template_require_the_same_versions():
    lines = [*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]
    required = dict(re.findall(r"^([\w-]+)(?:\[.*\])?(>=.*)$", "\n".join(lines), re.MULTILINE))
    template = ROOT / "saliencykit" / "registry" / "template" / "pyproject.toml.template"
    for path in [template, *ROOT.glob("plugins/*/pyproject.toml")]:
        for name, versions in re.findall(r'"([\w-]+)(>=[^"]*)"', path.read_text()):
            assert required.get(name, versions) == versions, (path, name)


@pytest.mark.parametrize(
    ("extra", "call"), [(extra, call) for extra, calls in CALLS.items() for call in calls]
)
def test_what_is_missing_is_named_by_its_extra(extra, call, monkeypatch, tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(4):
        demo_image().save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 PAR1")
    (tmp_path / "c.mp4").write_bytes(b"frames")
    black_box = demo_black_box()
    with monkeypatch.context() as patch:  # pytest itself uses hypothesis between tests
        take_away(patch)
        with pytest.raises(SaliencyKitError) as caught:
            call(black_box, tmp_path)
    assert f"pip install 'saliencykit[{extra}]'" in str(caught.value)
    assert "\n" not in str(caught.value)
