"""What several commands have in common."""

import warnings
from pathlib import Path

import pytest

from saliencykit.cli.options import as_label, going_on, leads, training_folder
from saliencykit.core.errors import InputError


@pytest.mark.parametrize("text", ["²", "1.5", "--5", "nan", "", "1e3", "٣"])
def test_a_label_that_is_no_index_is_a_name(text):
    assert as_label(text) == text


def test_weights_go_beside_their_training(tmp_path):
    assert training_folder(tmp_path / "new" / "my.safetensors") == tmp_path / "new" / "my-training"
    assert (tmp_path / "new").is_dir()
    with pytest.raises(InputError, match=r"ends in \.safetensors; got 'my\.bin'\."):
        training_folder(Path("my.bin"))
    (tmp_path / "d.safetensors").mkdir()
    with pytest.raises(InputError, match="a directory"):
        training_folder(tmp_path / "d.safetensors")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write to"):
        training_folder(tmp_path / "file" / "my.safetensors")


def test_one_process_of_a_launch_speaks(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert leads()
    monkeypatch.setenv("RANK", "1")
    with warnings.catch_warnings(record=True) as said:
        assert not leads()
        warnings.warn("twice", stacklevel=1)
    assert not said


@pytest.mark.parametrize("there", [True, False])
def test_what_an_interrupt_leaves_behind_is_said(there, capsys):
    with pytest.raises(KeyboardInterrupt), going_on("the rows in run", lambda: there):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == (
        "Stopped; the same command goes on from the rows in run.\n" if there else ""
    )
