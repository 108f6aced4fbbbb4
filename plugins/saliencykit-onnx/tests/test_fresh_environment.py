"""A fresh environment: the package and this plugin installed from the checkout, used by name on the
command line.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
OURS = ("saliencykit", "__editable__")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An environment of its own, which sees the packages of this one (torch is large) but none of
    ours.
    """
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("not in the repository")
    folder = tmp_path_factory.mktemp("fresh")
    source, packages, home = folder / "source", folder / "packages", folder / "venv"
    # so that the checkout stays as it is
    skipped = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "saliencykit", source / "saliencykit", ignore=skipped)
    shutil.copytree(
        ROOT / "plugins" / "saliencykit-onnx",
        source / "plugins" / "saliencykit-onnx",
        ignore=skipped,
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    packages.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(OURS) and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    venv.create(home, with_pip=False)
    site = next((home / "lib").glob("python*/site-packages"))
    (site / "packages.pth").write_text(f"{packages}\n")
    python = home / "bin" / "python"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
    ]
    subprocess.run(
        [*install, str(source), str(source / "plugins" / "saliencykit-onnx")],
        check=True,
        cwd=folder,
    )
    return home, site


@pytest.mark.slow
def test_an_onnx_file_is_explained_by_name_beside_a_broken_plugin(environment, dynamic, tmp_path):
    home, site = environment
    info = site / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[saliencykit]\nbroken = broken_plugin\n")
    (site / "broken_plugin.py").write_text("raise RuntimeError('out of order')\n")

    def run(name, *words):
        clean = {
            key: value for key, value in os.environ.items() if not key.startswith("PYTHON")
        } | {"COLUMNS": "200"}
        command = [str(home / "bin" / name), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env=clean, cwd=tmp_path)

    assert (
        str(home) in run("python", "-c", "import saliencykit; print(saliencykit.__file__)").stdout
    )
    listed = run("saliencykit", "plugins")
    assert listed.returncode == 0, listed.stderr
    said = " ".join(listed.stdout.split())
    assert "broken broken 1.0 left out: RuntimeError: out of order" in said
    assert "onnx saliencykit-onnx 0.1.0 works" in said
    done = run(
        "saliencykit",
        "explain",
        "--model",
        f"onnx:{dynamic},mean=0.5,std=0.25",
        "--masker",
        "rise:samples=50",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "explanation" / "overlay-0000.png").exists()
