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
        ({"pixel_steps": 0}, r"steps=0\) takes a whole number >= 1"),
        ({"warmup_steps": -1}, r"warmup_steps=-1\) takes a whole number >= 0"),
        ({"mixing_steps": -1}, r"mixing_steps=-1\) takes a whole number >= 0"),
        ({"batch_size": 1}, r"batch_size=1\) takes a whole number >= 2"),
        ({"fake_class_rate": 1.0}, r"fake_class_rate=1.0\) takes a number in \[0, 1\)"),
        ({"fake_class_rate": -0.1}, "takes a number in"),
        ({"area": 0.0}, r"area=0.0\) takes a number in \(0, 1\)"),
        ({"area": 1.0}, "area"),
        ({"lr": 0.0}, r"lr=0.0\) takes a number in \(0, 1\)"),
        ({"lr": 1.0}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"mixed_precision": "fp16"}, "'no' or 'bf16'"),
        ({"views_per_image": 0}, r"views_per_image=0\) takes a whole number >= 1"),
        ({"validate_every": 0}, "validate_every"),
        ({"patience": 0}, "patience"),
        ({"save_every": 0}, "save_every"),
    ],
)
def test_numbers_that_make_no_sense(options, words):
    with pytest.raises(InputError, match=words):
        schedule(**options)


def test_a_step_says_what_it_does_not_know():
    step = FitStep(3, "warmup", 1.5)
    assert step.area != step.area
    assert step.parts == {}
