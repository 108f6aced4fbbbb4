"""Weights from local files, and clear errors for every file that is none."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from saliencykit.black_boxes.state_dict import build_with_weights, read_state_dict
from saliencykit.core.errors import InputError


def build(classes: int | None) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, classes or 5)
    )


def saved(path: Path, state: dict[str, object]) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth"])
def test_weights_come_back(tmp_path: Path, name: str) -> None:
    source = build(None)
    model = build_with_weights(build, saved(tmp_path / name, source.state_dict()), None)
    assert all(
        torch.equal(value, source.state_dict()[key]) for key, value in model.state_dict().items()
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
        lambda state: {key: value for key, value in state.items() if "num_batches" not in key},
        lambda state: {
            key: value.half() if value.is_floating_point() else value
            for key, value in state.items()
        },
    ],
)
def test_wrapped_prefixed_shortened_and_half_files(tmp_path: Path, change) -> None:
    source = build(None)
    model = build_with_weights(build, saved(tmp_path / "w.pt", change(source.state_dict())), None)
    torch.testing.assert_close(model[3].weight, source[3].weight, atol=1e-3, rtol=1e-3)
    assert model[3].weight.dtype == torch.float32


def test_the_number_of_classes_is_read_from_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", build(9).state_dict())
    assert build_with_weights(build, path, None)[3].out_features == 9
    with pytest.raises(
        InputError,
        match=r"2 of another kind \(3.weight is torch.float32 of shape \(9, 16\) and must be",
    ):
        build_with_weights(build, path, 7)


class Spoiler:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("raise SystemExit('unpickled')",))


def test_files_that_are_no_state_dicts(tmp_path: Path) -> None:
    good = build(None).state_dict()
    with pytest.raises(InputError, match=r"no checkpoint file .*nowhere"):
        read_state_dict(tmp_path / "nowhere.pt")
    (tmp_path / "w.onnx").write_bytes(b"1")
    with pytest.raises(InputError, match=r"is \.safetensors, \.pt"):
        read_state_dict(tmp_path / "w.onnx")
    for name in ("a.safetensors", "a.pt"):
        whole = saved(tmp_path / name, good).read_bytes()
        for content in (b"", b"not a checkpoint", whole[: len(whole) // 2]):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(InputError, match="damaged"):
                read_state_dict(tmp_path / name)
    torch.save(build(None), tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"save it again with torch.save\(model.state_dict"):
        read_state_dict(tmp_path / "model.pt")
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Spoiler()))
    with pytest.raises(InputError, match="evil"):
        read_state_dict(tmp_path / "evil.pt")
    for held in ([1, 2], {}, {"epoch": 3}):
        torch.save(held, tmp_path / "odd.pt")
        with pytest.raises(InputError, match="not a state dict"):
            read_state_dict(tmp_path / "odd.pt")


def test_weights_of_another_model(tmp_path: Path) -> None:
    state = build(None).state_dict()
    del state["0.bias"]
    state["9.weight"] = torch.zeros(2)
    with pytest.raises(InputError, match=r"1 missing \(0.bias\); 1 unknown \(9.weight\)"):
        build_with_weights(build, saved(tmp_path / "w.pt", state), None)
