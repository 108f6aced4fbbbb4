import sys
import warnings

import pytest

from saliencykit.cli import main
from saliencykit.registry import KINDS


def called(monkeypatch, *args):
    monkeypatch.setattr(sys, "argv", ["saliencykit", "plugins", *args])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main() sets its own
    monkeypatch.setenv("SALIENCYKIT_TRACEBACK", "1")
    monkeypatch.setenv("COLUMNS", "160")
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code


def test_plugins_alone_lists_what_has_a_name(monkeypatch, capsys):
    assert called(monkeypatch) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert [word for word in ("kind", "name", "what it is") if word not in lines[0]] == []
    for kind in KINDS:
        assert any(line.startswith(f"{kind.replace('_', ' ')} ") and "saliencykit/" in line for line in lines)
    (rise,) = [line for line in lines if "saliencykit/rise " in line]
    assert "Random masks M_s, the label's probability" in rise
    assert any(line.split()[:3] == ["saliencykit", "built", "in"] for line in lines)


def test_new_makes_a_plugin_and_says_what_to_do_next(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert called(monkeypatch, "new", "fog-plugin") == 0
    assert capsys.readouterr().out.splitlines() == [
        "fog-plugin written: 9 files, one of each noun, and their tests. Now:",
        "  pip install -e ./fog-plugin",
        "  python -m pytest fog-plugin",
        "  saliencykit explain --masker fog-plugin/peephole",
    ]
    assert called(monkeypatch, "new", "fog-plugin", "--into", str(tmp_path / "my plugins")) == 0
    assert f"pip install -e '{tmp_path}/my plugins/fog-plugin'" in capsys.readouterr().out
    assert (tmp_path / "my plugins" / "fog-plugin" / "fog_plugin" / "masker.py").is_file()


@pytest.mark.parametrize(
    ("name", "words"), [("fog", "'fog' exists already"), ("a b", "is no name for a package"), ("torch", "is installed already")]
)
def test_a_mistake_is_one_line_with_exit_code_2(name, words, monkeypatch, capsys, tmp_path):
    (tmp_path / "fog").mkdir()
    monkeypatch.chdir(tmp_path)
    assert called(monkeypatch, "new", name) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("Error: ")
    assert words in line
    assert [path.name for path in tmp_path.iterdir()] == ["fog"]
