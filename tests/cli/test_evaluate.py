"""evaluate, compare and report, as a user meets them."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image


@pytest.fixture
def folder(tmp_path, command):
    Path("photos").mkdir()
    generator = torch.Generator().manual_seed(0)
    for i in range(3):
        pixels = torch.randint(256, (20, 30, 3), generator=generator, dtype=torch.uint8).numpy()
        Image.fromarray(pixels).resize((90, 60)).save(f"photos/{i}.png")
    Path("photos/damaged.png").write_bytes(b"nothing")
    return tmp_path


SMALL = ("--data", "photos", "--masker", "boxes=center-box:area=0.2", "--metric", "saliency-score")


def test_photos_are_evaluated_compared_and_reported(folder, command):
    code, out, err = command("evaluate", *SMALL)
    assert code == 0, err
    assert "saliency-score/score down" in out
    for name in ("boxes", "center-box", "whole-image", "random", "grad-cam"):
        assert name in out
    assert "over 3 of 4 images" in out
    assert (
        "1 image without all scores of every masker: 'photos/damaged.png' is not an image that "
        "Pillow can read as one of JPEG, " in out
    )
    assert "20 of 20 rows" in err.splitlines()[-1]
    code, out, err = command("evaluate", *SMALL)
    assert (code, err) == (0, ""), "nothing was left to do"
    code, out, _ = command("compare", "run", "--baseline", "random")
    assert code == 0
    assert "each minus 'random'" in out
    code, out, _ = command("compare", "run", "--baseline", "random", "--json")
    assert {each["masker"] for each in json.loads(out)} == {
        "boxes",
        "center-box",
        "whole-image",
        "grad-cam",
    }
    code, out, _ = command("report", "run", "--output", "page.html")
    assert code == 0
    assert "wrote page.html" in out
    assert Path("page.html").read_text(encoding="utf-8").count("data:image/jpeg") == 3 * (1 + 5 * 3)


def test_json_is_the_only_output_on_stdout(folder, command):
    code, out, err = command("evaluate", *SMALL, "--json", "--max-images", "2", "--no-baselines")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert {line["masker"] for line in found["table"]} == {"boxes"}
    assert found["table"][0]["n"] == 2


def test_a_saved_explanation_has_a_page_too(folder, command):
    assert command("explain", "photos/0.png", "--masker", "center-box")[0] == 0
    code, _, _ = command("report", "explanation")
    assert code == 0
    assert Path("explanation/report.html").read_text(encoding="utf-8").count("data:image/jpeg") == 4


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("evaluate", "--data", "nowhere", "--metric", "saliency-score"), "nowhere"),
        (("evaluate", "--data", "", "--metric", "saliency-score"), "'' is not a folder"),
        (("evaluate", *SMALL, "--metric", "insertoin"), "Did you mean 'insertion'"),
        (("evaluate", *SMALL, "--masker", "rize"), "Did you mean 'rise'"),
        (("evaluate", *SMALL, "--masker", "boxes=rise"), "each name once"),
        (("evaluate", *SMALL, "--output", "photos/0.png"), "inside the images in photos"),
        (("compare", "nowhere", "--baseline", "x"), "there is no evaluation in nowhere"),
        (("report", "nowhere"), "there is no evaluation in nowhere"),
    ],
)
def test_a_mistake_is_one_line_with_exit_code_2(folder, command, args, words):
    code, out, err = command(*args)
    assert code == 2
    assert len(err.splitlines()) == 1, err
    assert words in err
    assert out == ""
    assert {path.name for path in folder.iterdir()} == {"photos"}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("evaluate", "--data", "latin.csv", *SMALL[2:]), "latin.csv' is not a CSV file in UTF-8"),
        (("evaluate", *SMALL, "--labels", "latin.csv"), "latin.csv' is not a CSV file in UTF-8"),
        (("evaluate", *SMALL, "--labels", "twice.csv"), "two labels for 0.png, 1 and 2"),
        (("evaluate", *SMALL, "--boxes", "latin.csv"), "latin.csv' is not a CSV file in UTF-8"),
        (("evaluate", *SMALL, "--output", "latin.csv/run"), "cannot write to latin.csv/run"),
        (("compare", "damaged", "--baseline", "x"), "settings.json is damaged"),
        (("report", "damaged"), "settings.json is damaged"),
        (
            ("report", "run", "--output", "latin.csv/page.html"),
            "latin.csv/page.html cannot be written: Not a directory. Choose another",
        ),
        (
            ("report", "run", "--output", "photos"),
            "photos cannot be written: Is a directory. Choose another file.",
        ),
    ],
)
def test_files_of_the_wrong_kind_are_one_line_with_exit_code_2(folder, command, args, words):
    Path("latin.csv").write_bytes("path,label\n0.png,caf\xe9\n".encode("latin-1"))
    Path("twice.csv").write_text("path,label\n0.png,1\n0.png,2\n")
    for name, text in (
        ("damaged", '{"format": 1}'),
        ("run", '{"format": 1, "maskers": {}, "metrics": {}}'),
    ):
        Path(name).mkdir()
        Path(name, "settings.json").write_text(text)
    code, out, err = command(*args)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1, err
    assert words in err


def test_paths_may_hold_any_characters(folder, command):
    Path("photos").rename("fötös 猫")
    code, _, err = command(
        "evaluate", "--data", "fötös 猫", *SMALL[2:], "--no-baselines", "--output", "läuf 猫"
    )
    assert code == 0, err
    for args in (
        ("compare", "läuf 猫", "--baseline", "boxes"),
        ("report", "läuf 猫", "--output", "new/séite.html"),
    ):
        code, _, err = command(*args)
        assert code == 0, err
    assert Path("new/séite.html").is_file()


def test_an_evaluation_of_damaged_images_exits_with_code_3(command, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"no image")
    code, out, err = command(
        "evaluate",
        "--data",
        "photos",
        "--masker",
        "center-box",
        "--metric",
        "insertion",
        "--output",
        "run",
        "--json",
    )
    assert code == 3
    assert json.loads(out)["missing"]
    assert "No image could be evaluated" in err
