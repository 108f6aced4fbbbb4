"""A file that somebody else wrote, or that a disk spoiled, never is a traceback: it is read, or it
is one line.
"""

import shutil
import traceback
import warnings
from random import Random

import pytest
import torch

from saliencykit.core.errors import SaliencyKitError
from tests.hostile.kinds import KINDS, damage

CASES = 70  # of each kind, a few milliseconds each


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """Valid files of each kind, made when they are first needed."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("valid") / "files"
            made[name].mkdir()
            KINDS[name].make(made[name])
        return made[name]

    return get


def attack(name, folder, tmp_path, seed):
    """Damage a copy and use it; why this is not as it must be, or None."""
    copy = tmp_path / "files"
    shutil.copytree(folder, copy)
    if (folder.parent / "images").exists() and not (tmp_path / "images").exists():
        shutil.copytree(folder.parent / "images", tmp_path / "images")
    what = damage(copy, Random(f"{name} {seed}"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            KINDS[name].use(copy)
    except SaliencyKitError as error:
        text = str(error)
        if "\n" in text or len(text) > 2000:
            return f"{name}, seed {seed}, {what}: not one line: {text[:300]!r}"
    except Exception:
        return f"{name}, seed {seed}, {what}: {traceback.format_exc()[-1500:]}"
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    return None


def wrong(name, valid, tmp_path, seeds):
    torch.set_num_threads(1)
    found = [attack(name, valid(name), tmp_path, seed) for seed in seeds]
    return "\n".join(each for each in found if each)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_valid_files_are_read(name, valid, tmp_path):
    if name == "COCO":
        pytest.importorskip("pycocotools")
    shutil.copytree(valid(name), tmp_path / "files")
    if (valid(name).parent / "images").exists():
        shutil.copytree(valid(name).parent / "images", tmp_path / "images")
    KINDS[name].use(tmp_path / "files")


@pytest.mark.parametrize("name", KINDS)
def test_a_few_damaged_files_are_one_line(name, valid, tmp_path):
    assert not wrong(name, valid, tmp_path, range(2))


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_many_damaged_files_are_one_line(name, valid, tmp_path):
    assert not wrong(name, valid, tmp_path, range(2, 2 + CASES))


def test_with_the_command_lines_there_are_two_thousand_cases():
    assert CASES * len(KINDS) + 300 >= 2000
