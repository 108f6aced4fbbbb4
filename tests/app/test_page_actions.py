import re
from pathlib import Path

import numpy as np
import pytest

from saliencykit.app import page_actions as actions
from saliencykit.app.disagreement import FIRST, SECOND, draw_regions
from saliencykit.app.exploration import Choice, explore
from saliencykit.app.folder_gallery import FILTERS, NOT_KEPT, explain_folder
from saliencykit.app.python_code import START_IMAGE
from saliencykit.app.workbench import Workbench
from saliencykit.core.errors import InputError
from saliencykit.core.verdict import Verdict
from saliencykit.demo import demo_image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    demo_image().save(folder / "b-espresso.png")
    demo_image().rotate(180).crop((0, 0, 90, 90)).save(folder / "a-corner.png")
    (folder / "c-broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def workbench():
    return Workbench({"demo": "demo"})


@pytest.fixture(scope="module")
def explored(workbench, folder):
    return explore(workbench, str(folder / "b-espresso.png"), Choice("demo"))


def test_the_page_shows_four_images_with_the_models_answers(workbench, explored):
    dial = actions.Dial(actions.own_percent(explored))
    assert dial.budget(explored) is None
    shown = actions.show(explored, None, dial)
    assert shown.panels.count("<img") == 4
    assert "espresso</b>: this region alone decides" in shown.panels
    kept = float(explored.view(None, "blur").explanation.kept[0])
    assert f"espresso {kept:.1%}" in shown.panels
    assert shown.disagreement == ""


def test_the_python_computes_what_is_shown(workbench, explored, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    demo_image().save("b-espresso.png")

    def computed(dial):
        scope = {}
        exec(actions.show(explored, None, dial).code, scope)
        return scope["explanation"]

    own = computed(actions.Dial(actions.own_percent(explored), "noise"))
    assert own.caption() == explored.view(None, "noise").explanation.caption()
    small, shown = computed(actions.Dial(12)), explored.view(0.12, "blur").explanation
    # of the order of the pixels before the mask is enlarged, and after
    assert small.area[0] == pytest.approx(0.12, abs=0.005)
    assert small.kept[0] == pytest.approx(float(shown.kept[0]), abs=0.05)
    assert (tmp_path / "overlay.png").exists()
    start = explore(workbench, str(folder / "b-espresso.png"), Choice("demo"), name=START_IMAGE)
    scope = {}
    exec(actions.show(start, None, actions.Dial(actions.own_percent(start))).code, scope)
    assert scope["explanation"].caption() == start.view(None, "blur").explanation.caption()


def test_the_python_of_a_contrast_names_both_classes(workbench, explored):
    rival = explored.top()[1][0]
    against = explore(
        workbench, explored.explanation.provenance["sources"][0], Choice("demo", against=rival)
    )
    code = actions.show(against, None, actions.Dial(20)).code
    assert f"target=Contrast(against={rival})" in code
    assert f"espresso, rather than {against.class_name(rival)}" in code


def test_two_maskers_are_compared_at_one_area(workbench, explored):
    file = explored.explanation.provenance["sources"][0]
    second = actions.compared(workbench, file, explored, "center-box")
    assert second.choice.label == explored.choice.label
    assert actions.compared(workbench, file, explored, "automatic") is None
    html = actions.show(explored, second, actions.Dial(25)).disagreement
    assert html.count("25%") == 2
    assert int(re.search(r"share (\d+)%", html)[1]) < 100


def test_only_the_first_only_the_second_both_and_neither_are_told_apart():
    first, second = np.array([[1.0, 1.0, 0.0, 0.0]]), np.array([[1.0, 0.0, 1.0, 0.0]])
    drawn = np.asarray(draw_regions(np.full((1, 4, 3), 0.5), first, second)).astype(int)[0]
    assert drawn[0].tolist() == [128] * 3
    for pixel, color in ((drawn[1], FIRST), (drawn[2], SECOND)):
        assert pixel.argmax() == np.argmax(color)
    assert drawn[3].max() < 60


def test_classes_are_searched_from_the_most_probable_on(explored):
    choices = actions.class_choices(explored)
    assert len(choices) == 200
    assert len({index for _, index in choices}) == 200
    assert choices[0][0].startswith("espresso, 7")
    assert choices[5:] == sorted(choices[5:])


def test_the_report_has_the_budget(explored):
    page = Path(actions.report_file(explored, actions.Dial(12))).read_text(encoding="utf-8")
    assert "espresso" in page
    assert "<dd><code>0.12</code></dd>" in page


def test_any_error_is_one_sentence_of_text():
    named = actions.problem(
        InputError("/tmp/a1b2/<b>.png is empty"), "/tmp/a1b2/<b>.png", "<b>.png"
    )
    assert "&lt;b&gt;.png is empty" in named
    assert "a1b2" not in named
    html = actions.problem(RuntimeError("<script>\nfire"))
    assert html.count("<") == 2
    assert "RuntimeError: &lt;script&gt; fire" in html


def test_a_folder_is_sorted_by_verdict_and_filtered(workbench, folder, tmp_path):
    images = explain_folder(workbench, "demo", "automatic", folder, tmp_path, max_images=9)
    assert images[0].file.name == "c-broken.png"
    assert images[-1].file.name == "b-espresso.png"
    assert images[-1].verdict == Verdict.BOTH
    assert images[-1].overlay.exists()
    assert all(image.fits(FILTERS[0]) for image in images)
    assert not images[-1].fits(NOT_KEPT)
    assert images[-1].fits(Verdict.BOTH.words)
