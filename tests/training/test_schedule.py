import pytest

from saliencykit.alternatives.blur import Blur
from saliencykit.core.errors import InputError
from saliencykit.core.objective import Objective
from saliencykit.terms.area import Area
from saliencykit.training.schedule import FitStep, Schedule

GOAL = Objective((Area(),))


def schedule(**options):
    return Schedule(GOAL, Blur(), **{"pixel_steps": 10, **options})


def test_phases_follow_one_another():
    one = schedule(warmup_steps=2, mixing_steps=3, pixel_steps=4)
    assert one.steps == 9
    assert [one.phase(step)[0] for step in range(9)] == ["warmup"] * 2 + ["feature-mixing"] * 3 + [
        "pixels"
    ] * 4
    assert schedule().phase(0)[0] == "pixels"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pixel_steps": 0}, "number of steps must be >= 1"),
        ({"warmup_steps": -1}, "number of steps must be >= 1"),
        ({"mixing_steps": -1}, "number of steps must be >= 1"),
        ({"batch_size": 1}, r"fit\(batch_size=1\): batch norms need at least 2"),
        ({"fake_class_rate": 1.0}, r"fake_class_rate=1.0\): must be in \[0, 1\)"),
        ({"fake_class_rate": -0.1}, "must be in"),
        ({"area": 0.0}, r"area=0.0\): the target mean area must be in \(0, 1\)"),
        ({"area": 1.0}, "target mean area"),
        ({"lr": 0.0}, "the learning rate must be in"),
        ({"lr": 1.0}, "the learning rate must be in"),
        ({"lr": float("nan")}, "the learning rate must be in"),
        ({"mixed_precision": "fp16"}, "'no' or 'bf16'"),
        (
            {"views_per_image": 0},
            "views_per_image, validate_every, patience and save_every must be >= 1",
        ),
        ({"validate_every": 0}, "must be >= 1"),
        ({"patience": 0}, "must be >= 1"),
        ({"save_every": 0}, "must be >= 1"),
    ],
)
def test_numbers_that_make_no_sense(options, words):
    with pytest.raises(InputError, match=words):
        schedule(**options)


def test_a_step_says_what_it_does_not_know():
    step = FitStep(3, "warmup", 1.5)
    assert step.area != step.area
    assert step.parts == {}
