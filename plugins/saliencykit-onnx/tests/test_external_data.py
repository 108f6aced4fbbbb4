"""A model may keep tensors in files beside it, and nowhere else."""

import random
import shutil
from contextlib import suppress

import numpy as np
import pytest
import torch
from saliencykit_onnx.external_data import check_external_data
from saliencykit_onnx.onnx_black_box import OnnxBlackBox

from saliencykit import InputError

onnx = pytest.importorskip("onnx")


@pytest.fixture
def external(dynamic, tmp_path):
    """A model whose tensors are in weights.bin."""
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "m.onnx"
    model = onnx.load(dynamic)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def moved_to(path, location):
    """The same model, which looks for its tensors elsewhere."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())


def test_tensors_beside_the_model_and_below_it_are_read(external, dynamic):
    wanted = OnnxBlackBox(dynamic, mean=0, std=1)
    images = np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32)
    images = torch.from_numpy(images)
    assert torch.equal(OnnxBlackBox(external, mean=0, std=1)(images), wanted(images))
    (external.parent / "data").mkdir()
    (external.parent / "weights.bin").rename(external.parent / "data" / "w.bin")
    moved_to(external, "data/w.bin")
    assert torch.equal(OnnxBlackBox(external, mean=0, std=1)(images), wanted(images))


@pytest.mark.parametrize(
    "location",
    [
        "/etc/passwd", "../outside.bin", "data/../../outside.bin", "..\\outside.bin",
        "C:\\Windows\\win.ini", "\\\\server\\share", "", ".", "no-such-file",
        "*/_ORT_MEM_ADDR_/*", "a\0b", "x" * 5000, "link.bin", "folder/w.bin", "/dev/zero",
    ],
)  # fmt: skip
def test_tensors_anywhere_else_are_refused(external, location):
    folder = external.parent
    outside = folder.parent / "outside.bin"
    shutil.copy(folder / "weights.bin", outside)
    (folder / "link.bin").symlink_to(outside)
    (folder.parent / "other").mkdir()
    shutil.copy(outside, folder.parent / "other" / "w.bin")
    (folder / "folder").symlink_to(folder.parent / "other")
    moved_to(external, location)
    with pytest.raises(InputError, match=r"takes tensors from .* must be files in the model's"):
        OnnxBlackBox(external)


def test_tensors_of_constants_and_of_inner_graphs_are_found(external):
    model = onnx.load(external, load_external_data=False)
    tensor = onnx.TensorProto(name="t", data_type=1, dims=[1], data_location=1)
    tensor.external_data.add(key="location", value="/etc/passwd")
    constant = onnx.helper.make_node("Constant", [], ["c"], value=tensor)
    inner = onnx.helper.make_graph([constant], "inner", [], [])
    branch = onnx.helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    for node in (constant, branch):
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        changed.graph.node.append(node)
        external.write_bytes(changed.SerializeToString())
        with pytest.raises(InputError, match="'/etc/passwd', which is not a path below it"):
            check_external_data(external)


def test_a_damaged_model_is_read_or_refused(external):
    whole = external.read_bytes()
    for seed in range(150):
        generator = random.Random(seed)
        spoiled = bytearray(whole)
        for _ in range(generator.choice((1, 4, 30))):
            spoiled[generator.randrange(len(spoiled))] = generator.randrange(256)
        size = generator.choice((len(spoiled), generator.randrange(len(spoiled))))
        external.write_bytes(bytes(spoiled[:size]))
        with suppress(InputError):
            OnnxBlackBox(external, mean=0, std=1)
