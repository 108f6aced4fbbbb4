import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.storage.weights_file import WeightsFile

FILES = WeightsFile("masker", 3, dict, "fit", "a classifier's weights go to checkpoint=")


def test_weights_come_back_in_half_precision_and_the_header_as_it_was(tmp_path):
    path = tmp_path / "new" / "m.safetensors"
    weights = {
        "matrix": torch.rand(3, 4),
        "vector": torch.rand(5),
        "count": torch.tensor(7),
        "whole": torch.arange(4).view(2, 2),
    }
    FILES.write(path, weights, {"facts": {"ü": [1, None]}})
    assert FILES.header(path) == {"format": 3, "facts": {"ü": [1, None]}}
    again = load_file(path)
    assert torch.equal(again["matrix"], weights["matrix"].half())
    assert all(torch.equal(again[name], weights[name]) for name in ("vector", "count", "whole"))
    assert [each.name for each in path.parent.iterdir()] == ["m.safetensors"]


def test_shared_memory_is_written_twice(tmp_path):
    whole = torch.rand(4, 4)
    FILES.write(tmp_path / "m.safetensors", {"one": whole, "other": whole[:2]}, {})
    assert torch.equal(load_file(tmp_path / "m.safetensors")["other"], whole[:2].half())


def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SaliencyKitError, match="cannot be written"):
        FILES.write(tmp_path / "file" / "m.safetensors", {"w": torch.zeros(1)}, {})
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (None, "does not contain a saliencykit masker; a classifier's weights go to checkpoint=."),
        ("{", "is damaged"),
        ("[]", "is damaged: expected `object`, got `array`"),
        ("{}", "has format None"),
        (json.dumps({"format": 4}), "has format 4 and this version of saliencykit reads 3"),
    ],
)
def test_other_files_are_refused(tmp_path, metadata, words):
    path = tmp_path / "m.safetensors"
    save_file(
        {"w": torch.zeros(1)},
        path,
        metadata=None if metadata is None else {"saliencykit-masker": metadata},
    )
    with pytest.raises(InputError, match=words):
        FILES.header(path)


def test_no_file_and_no_safetensors(tmp_path):
    with pytest.raises(InputError, match="`saliencykit fit --output m"):
        FILES.header(tmp_path / "m.safetensors")
    (tmp_path / "m.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a valid safetensors file"):
        FILES.header(tmp_path / "m.safetensors")
