import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from saliencykit.core.errors import InputError
from saliencykit.registry.scaffold import names_of, new_plugin, write_template

ROOT = Path(__file__).parents[2]
FILES = [
    "README.md", "my_plugin/__init__.py", "my_plugin/alternative.py", "my_plugin/black_box.py",
    "my_plugin/masker.py",
    "my_plugin/metric.py", "my_plugin/term.py", "pyproject.toml", "tests/test_contracts.py",
]  # fmt: skip


TUTORIAL = (ROOT / "docs" / "tutorials" / "write-a-plugin.md").read_text()
QUOTED = re.findall(r'^```python title="([^"]+)"\n(.*?)^```$', TUTORIAL, re.MULTILINE | re.DOTALL)


def files_of(folder):
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    made = re.compile(r"\..*|__pycache__|.*\.egg-info|build")  # by tools that ran there
    return sorted(
        name.as_posix() for name in names if not any(made.fullmatch(part) for part in name.parts)
    )


def test_the_example_is_the_template(tmp_path):
    """Mend the template in saliencykit/registry/template, then write the example again with
    write_template.
    """
    example = ROOT / "plugins" / "saliencykit-example"
    write_template(tmp_path, "saliencykit-example")
    assert files_of(tmp_path) == files_of(example)
    assert [
        name
        for name in files_of(tmp_path)
        if (tmp_path / name).read_bytes() != (example / name).read_bytes()
    ] == []


def test_the_tutorial_quotes_the_template_and_its_example_is_short(tmp_path):
    write_template(tmp_path, "my-plugin")
    assert [name for name, _ in QUOTED] == [
        "my_plugin/masker.py", "my_plugin/__init__.py", "my_plugin/quadtree.py",
        "my_plugin/__init__.py", "tests/test_contracts.py",
    ]  # fmt: skip
    for name, text in QUOTED[:2]:
        assert text in (tmp_path / name).read_text()
    written = [line for _, text in QUOTED[2:] for line in text.splitlines() if line.strip()]
    assert len(written) <= 60
    assert f"{len(written)} lines" in TUTORIAL


def test_a_new_plugin_has_its_own_names(tmp_path):
    made = new_plugin("My_Plugin", tmp_path / "below" / "here")
    assert (made.distribution, made.package, made.plugin) == ("my-plugin", "my_plugin", "my-plugin")
    assert made.folder == tmp_path / "below" / "here" / "my-plugin"
    assert files_of(made.folder) == FILES
    text = "".join((made.folder / name).read_text() for name in FILES)
    assert "example" not in text.replace("examples", "").replace("Example:", "")
    assert "$" not in text
    assert 'my-plugin = "my_plugin"' in text
    # nothing half made beside it
    assert [p.name for p in made.folder.parent.iterdir()] == ["my-plugin"]
    assert os.access(made.folder, os.X_OK)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("fog", ("fog", "fog", "fog")),
        ("saliencykit-fog", ("saliencykit-fog", "saliencykit_fog", "fog")),
        ("My.Own__Masks2", ("my-own-masks2", "my_own_masks2", "my-own-masks2")),
    ],
)
def test_a_package_name_gives_distribution_module_and_plugin(name, names):
    assert names_of(name) == names


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "is not a valid package name"),
        ("two words", "is not a valid package name"),
        ("-fog", "is not a valid package name"),
        ("fog-", "is not a valid package name"),
        ("fog/mist", "is not a valid package name"),
        ("../fog", "is not a valid package name"),
        ("nébel", "is not a valid package name"),
        (
            "3d-fog",
            "'3d_fog' is not a valid name in Python; choose another one, such as 'my-3d-fog'",
        ),
        ("class", "'class' is a keyword in Python"),
        ("torch", "a package 'torch' is already installed"),
        ("Json", "a module 'json' already exists"),
        ("saliencykit", "a plugin 'saliencykit' already exists"),
        ("saliencykit-local", "a plugin 'local' already exists"),
    ],
)
def test_names_that_are_malformed_or_taken(name, words, tmp_path):
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        new_plugin(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "fog-plugin").mkdir()
    (tmp_path / "fog-plugin" / "mine.txt").write_text("mine")
    with pytest.raises(
        InputError, match="already exists; choose another name, or another directory"
    ):
        new_plugin("fog-plugin", tmp_path)
    assert files_of(tmp_path) == ["fog-plugin/mine.txt"]
    with pytest.raises(InputError, match="cannot write to"):
        new_plugin("fog-plugin", tmp_path / "fog-plugin" / "mine.txt")


def test_a_failed_plugin_leaves_no_files(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("saliencykit.registry.scaffold._fill", full)
    with pytest.raises(OSError, match="disk full"):
        new_plugin("fog-plugin", tmp_path)
    assert list(tmp_path.iterdir()) == []


def python(*args, cwd, path):
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, [ROOT, *path])),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "160",
    }
    done = subprocess.run(
        [sys.executable, *args],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_steps_of_the_tutorial_work(tmp_path):
    made = new_plugin("my-plugin", tmp_path)
    (made.folder / "my_plugin" / "quadtree.py").write_text(QUOTED[2][1])
    hooks = made.folder / "my_plugin" / "__init__.py"
    hooks.write_text(hooks.read_text().replace(QUOTED[1][1], QUOTED[3][1]))
    with (made.folder / "tests" / "test_contracts.py").open("a") as tests:
        tests.write("\n\n" + QUOTED[4][1])
    info = tmp_path / "site" / "my_plugin-0.1.0.dist-info"  # what pip leaves of an editable install
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugin\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[saliencykit]\nmy-plugin = my_plugin\n")
    path = [tmp_path / "site", made.folder]
    assert "11 passed" in python("-m", "pytest", "-q", "my-plugin", cwd=tmp_path, path=path)
    listed = python("-m", "saliencykit", "plugins", "list", cwd=tmp_path, path=path)
    for name in ("main-color", "shuffled", "undecided", "peephole", "quadtree", "kept"):
        assert f" my-plugin/{name} " in listed
    for masker in ("quadtree", "my-plugin/quadtree:depth=2,alternative=my-plugin/shuffled"):
        assert "espresso" in python(
            "-m", "saliencykit", "explain", "--masker", masker, cwd=tmp_path, path=path
        )


@pytest.mark.slow
def test_pip_installs_it(tmp_path):
    pytest.importorskip("setuptools", "77")
    made = new_plugin("fog", tmp_path)
    site = tmp_path / "site"
    python(
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        site,
        made.folder,
        cwd=tmp_path,
        path=[],
    )
    assert "10 passed" in python(
        "-m", "pytest", "-q", made.folder / "tests", cwd=tmp_path / "site", path=[site]
    )
    said = python(
        "-m",
        "saliencykit",
        "explain",
        "--model",
        "fog/main-color",
        "--masker",
        "fog/peephole:cells=3",
        cwd=site,
        path=[site],
    )
    assert "red" in said


@pytest.mark.slow
def test_the_wheel_holds_the_template(tmp_path):
    pytest.importorskip("setuptools", "77")
    copy = tmp_path / "copy"  # a build leaves folders behind
    shutil.copytree(
        ROOT / "saliencykit", copy / "saliencykit", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    python(
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        tmp_path,
        copy,
        cwd=tmp_path,
        path=[],
    )
    (wheel,) = tmp_path.glob("saliencykit-*.whl")
    held = [
        name
        for name in zipfile.ZipFile(wheel).namelist()
        if name.startswith("saliencykit/registry/template/")
    ]
    source = ROOT / "saliencykit" / "registry" / "template"
    assert sorted(held) == sorted(
        f"saliencykit/registry/template/{p.relative_to(source).as_posix()}"
        for p in source.rglob("*.template")
    )
