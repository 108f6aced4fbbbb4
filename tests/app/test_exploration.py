import numpy as np
import pytest
import torch
from PIL import Image

from saliencykit.app.exploration import Choice, explore
from saliencykit.app.workbench import Workbench
from saliencykit.black_boxes.function import FunctionBlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.verdict import Verdict


def brightness(images: np.ndarray) -> np.ndarray:
    """Which of three columns is brightest?"""
    columns = images.mean((1, 3)).reshape(len(images), 3, -1).mean(2)
    return 20 * columns


@pytest.fixture
def workbench():
    """A query-only model of three classes, for images of 24 px."""
    black_box = FunctionBlackBox(
        brightness,
        size=24,
        num_classes=3,
        probabilities=False,
        class_names=("left", "middle", "right, starboard"),
    )
    return Workbench({"columns": black_box}, ["rise:samples=200"])


@pytest.fixture
def photo(tmp_path):
    pixels = np.full((48, 48, 3), 40, np.uint8)
    pixels[:, 32:] = 250
    Image.fromarray(pixels).save(tmp_path / "right.png")
    return str(tmp_path / "right.png")


def test_a_new_budget_queries_again_and_explains_nothing_again(workbench, photo):
    explored = explore(workbench, photo, Choice("columns", "rise:samples=200"))
    assert explored.choice.label == 2
    assert explored.class_name(2) == "right"
    own, small = explored.view(None, "blur"), explored.view(0.2, "blur")
    assert torch.equal(own.explanation.mask, explored.explanation.mask)
    assert small.explanation.mask.mean() == pytest.approx(0.2, abs=0.01)
    assert small.explanation.mask[..., 16:].mean() > 0.5
    assert own.answers.shape == (3, 3)
    # the answers are those of the model to the edited images
    pixels = small.edited.permute(0, 2, 3, 1).numpy()
    assert torch.allclose(
        small.answers[1:], torch.from_numpy(brightness(pixels)).float(), atol=1e-3
    )
    assert explored.view(0.5, "constant:color=0").explanation.verdicts[0] in tuple(Verdict)


def test_two_queries_in_one_batch_for_a_move(photo):
    batches = []

    def counted(images):
        batches.append(len(images))
        return brightness(images)

    bench = Workbench(
        {"columns": FunctionBlackBox(counted, size=24, num_classes=3, probabilities=False)},
        ["center-box"],
    )
    explored = explore(bench, photo, Choice("columns", "center-box"))
    explored.view(0.2, "blur")
    batches.clear()
    explored.view(0.3, "blur")
    assert batches == [2]


def test_a_contrast_is_relative_and_the_answers_are_the_models_own(workbench, photo):
    explored = explore(workbench, photo, Choice("columns", "rise:samples=200", 2, against=0))
    view = explored.view(0.3, "blur")
    assert view.explanation.preserved[0, 0] == 0
    assert view.answers[1, 0] != 0
    with pytest.raises(InputError, match="contrasted with itself"):
        explore(workbench, photo, Choice("columns", "rise:samples=200", 0, against=0))


def test_the_display_is_what_the_model_saw(workbench, tmp_path):
    wide = Image.new("RGB", (400, 100), "white")
    wide.save(tmp_path / "wide.png")
    explored = explore(workbench, str(tmp_path / "wide.png"), Choice("columns", "center-box"))
    pixels, geometry = explored.display()
    assert max(pixels.shape) == 512
    assert geometry.source_size == pixels.shape[:2]
    x0, y0, x1, y1 = geometry.region
    assert x0 <= 1
    assert y0 <= 1
    assert x1 >= pixels.shape[1] - 1
    assert y1 >= pixels.shape[0] - 1


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice("other"), "does not offer the model 'other'"),
        (Choice("columns", "stored:/etc"), "does not offer the masker"),
        (Choice("columns", "grad-cam"), "query-only"),
        (Choice("columns", "center-box", 9), "outside 0..2"),
    ],
)
def test_what_the_page_does_not_offer_is_refused(workbench, photo, choice, words):
    with pytest.raises(Exception, match=words):
        explore(workbench, photo, choice)


def test_a_page_without_an_image_says_what_to_do(workbench):
    with pytest.raises(InputError, match="drop an image"):
        explore(workbench, None, Choice("columns"))
    with pytest.raises(InputError, match="needs a model"):
        Workbench({})
