import pytest

from saliencykit.registry.manager import KINDS


def test_plugins_list_shows_every_registered_name(command):
    code, said, _ = command("plugins", "list")
    assert code == 0
    lines = said.splitlines()
    assert [word for word in ("kind", "name", "description") if word not in lines[0]] == []
    for kind in KINDS:
        assert any(
            line.startswith(f"{kind.replace('_', ' ')} ") and "saliencykit/" in line
            for line in lines
        )
    (rise,) = [line for line in lines if "saliencykit/rise " in line]
    assert "The covariance of p(label) under random masks" in rise
    assert any(line.split()[:3] == ["saliencykit", "built", "in"] for line in lines)


def test_plugins_new_writes_a_package_and_prints_the_next_commands(command, tmp_path):
    code, said, _ = command("plugins", "new", "fog-plugin")
    assert code == 0
    assert said.splitlines() == [
        "wrote fog-plugin: 9 files, an example of each kind of part, and tests. Next:",
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
        ("fog", "'fog' already exists"),
        ("a b", "is not a valid package name"),
        ("torch", "is already installed"),
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
