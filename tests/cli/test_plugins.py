import pytest

from saliencykit.registry.manager import KINDS


def test_plugins_alone_lists_what_has_a_name(command):
    code, said, _ = command("plugins", "list")
    assert code == 0
    lines = said.splitlines()
    assert [word for word in ("kind", "name", "what it is") if word not in lines[0]] == []
    for kind in KINDS:
        assert any(
            line.startswith(f"{kind.replace('_', ' ')} ") and "saliencykit/" in line
            for line in lines
        )
    (rise,) = [line for line in lines if "saliencykit/rise " in line]
    assert "Random masks M_s, the label's probability" in rise
    assert any(line.split()[:3] == ["saliencykit", "built", "in"] for line in lines)


def test_new_makes_a_plugin_and_says_what_to_do_next(command, tmp_path):
    code, said, _ = command("plugins", "new", "fog-plugin")
    assert code == 0
    assert said.splitlines() == [
        "fog-plugin written: 9 files, one of each noun, and their tests. Now:",
        "  pip install -e ./fog-plugin",
        "  python -m pytest fog-plugin",
        "  saliencykit explain --masker fog-plugin/peephole",
    ]
    code, said, _ = command("plugins", "new", "fog-plugin", "--into", str(tmp_path / "my plugins"))
    assert code == 0
    assert f"pip install -e '{tmp_path}/my plugins/fog-plugin'" in said
    assert (tmp_path / "my plugins" / "fog-plugin" / "fog_plugin" / "masker.py").is_file()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fog", "'fog' exists already"),
        ("a b", "is no name for a package"),
        ("torch", "is installed already"),
    ],
)
def test_a_mistake_is_one_line_with_exit_code_2(name, words, command, tmp_path):
    (tmp_path / "fog").mkdir()
    code, out, err = command("plugins", "new", name)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("Error: ")
    assert words in line
    assert [path.name for path in tmp_path.iterdir()] == ["fog"]
