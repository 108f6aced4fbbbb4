"""Devices, pipes and sockets are refused before they are opened, wherever a file can be named."""

import os
import socket
import tempfile
from pathlib import Path

import pytest
import torch

from saliencykit import explain, explain_dataset
from saliencykit.core.errors import InputError
from saliencykit.core.regular_file import refuse_special_file
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.testing.black_boxes import PlantedEvidence


@pytest.fixture(params=["pipe", "socket", "device"])
def special(request):
    """A function from an ending to the path of something that never ends, or waits for ever."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:

        def path(ending):
            made = Path(folder, f"a{ending}")
            if request.param == "pipe":
                os.mkfifo(made)
            elif request.param == "socket":
                listener.bind(str(made))
            else:
                made.symlink_to("/dev/zero")
            return made

        yield path


@pytest.mark.parametrize(
    ("ending", "use"),
    [
        (".jpg", lambda path: explain(PlantedEvidence(), path)),
        (".csv", lambda path: explain_dataset(PlantedEvidence(), path, output_dir="never")),
        (".jsonl", lambda path: explain_dataset(PlantedEvidence(), path, output_dir="never")),
        (".safetensors", lambda path: RealTimeMasker.load(path)),
        (".safetensors", lambda path: explain(str(path), torch.rand(1, 3, 16, 16), masker="rise")),
        (
            ".safetensors",
            lambda path: explain(PlantedEvidence(), torch.rand(1, 3, 16, 16), masker=str(path)),
        ),
    ],
)
def test_it_is_one_line_that_names_the_kind(special, ending, use):
    with pytest.raises(InputError, match=r"is a (named pipe|socket|device) and not a file"):
        use(special(ending))


def test_files_folders_and_what_is_missing_pass(tmp_path):
    (tmp_path / "a").touch()
    for name in ("a", "", "missing", "a\0b"):
        refuse_special_file(tmp_path / name)
