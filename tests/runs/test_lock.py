import json
import os
import socket

import pytest

from saliencykit.core.errors import InputError
from saliencykit.runs.lock import locked


def test_it_is_held_once_and_names_the_holder(tmp_path):
    path, words = (
        tmp_path / "lock",
        f"process {os.getpid()} on {socket.gethostname()} is writing to",
    )
    with locked(path), pytest.raises(InputError, match=words), locked(path):
        pass
    with locked(path):
        pass
    assert not (tmp_path / "lock.json").exists()


@pytest.mark.parametrize("left", ["", '{"pid": 9', "[]"])
def test_what_a_dead_process_of_this_machine_left_is_taken_over(tmp_path, left):
    (tmp_path / "lock.json").write_text(left)
    with locked(tmp_path / "lock"):
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()


def test_a_dead_process_is_taken_over(tmp_path):
    (tmp_path / "lock.json").write_text(
        json.dumps({"pid": 2**22 + 1, "host": socket.gethostname()})
    )
    with locked(tmp_path / "lock"):
        pass


def test_another_machines_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "lock.json").write_text(json.dumps({"pid": 7, "host": "elsewhere"}))
    with (
        pytest.raises(
            InputError, match=r"process 7 on the machine elsewhere .* delete .*lock.json"
        ),
        locked(tmp_path / "lock"),
    ):
        pass
    assert "elsewhere" in (tmp_path / "lock.json").read_text()


def test_it_is_let_go_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "lock"):
        _ = 1 / 0
    with locked(tmp_path / "lock"):
        pass
