"""What several commands have in common."""

import warnings
from pathlib import Path

import pytest

from saliencykit.cli.options import (
    as_label,
    is_main_process,
    output_directory,
    resumable,
    training_directory,
)
from saliencykit.core.errors import InputError


@pytest.mark.parametrize("text", ["²", "1.5", "--5", "nan", "", "1e3", "٣"])
def test_a_label_that_is_not_an_index_is_a_name(text):
    assert as_label(text) == text


def test_checkpoints_go_beside_the_weights(tmp_path):
    assert (
        training_directory(tmp_path / "new" / "my.safetensors") == tmp_path / "new" / "my-training"
    )
    assert (tmp_path / "new").is_dir()
    with pytest.raises(InputError, match=r"ends in \.safetensors; got 'my\.bin'\."):
        training_directory(Path("my.bin"))
    (tmp_path / "d.safetensors").mkdir()
    with pytest.raises(InputError, match="a directory"):
        training_directory(tmp_path / "d.safetensors")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write to"):
        training_directory(tmp_path / "file" / "my.safetensors")


def test_one_process_of_a_launch_prints_and_warns(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert is_main_process()
    monkeypatch.setenv("RANK", "1")
    with warnings.catch_warnings(record=True) as said:
        assert not is_main_process()
        warnings.warn("twice", stacklevel=1)
    assert not said


@pytest.mark.parametrize("there", [True, False])
def test_an_interrupt_tells_how_to_resume(there, capsys):
    with pytest.raises(KeyboardInterrupt), resumable("the rows in run", lambda: there):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == (
        "Run the same command again to resume from the rows in run.\n" if there else ""
    )


def test_an_error_leaves_no_new_empty_directory(tmp_path):
    (tmp_path / "old").mkdir()
    for name in ("new", "old"):
        with pytest.raises(ZeroDivisionError), output_directory(tmp_path / name):
            raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
