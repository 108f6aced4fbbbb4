import pytest

from saliencykit.alternatives.blur import Blur
from saliencykit.core.errors import InputError
from saliencykit.core.objective import Objective
from saliencykit.terms.area import Area
from saliencykit.training.schedule import FitStep, Schedule

GOAL = Objective((Area(),))


def plan(**options):
    return Schedule(GOAL, Blur(), **{"composing": 10, **options})


def test_phases_follow_one_another():
    one = plan(warmup_steps=2, mixing=3, composing=4)
    assert one.steps == 9
    assert [one.phase(step) for step in range(9)] == ["warm-up"] * 2 + ["mixing"] * 3 + [
        "composing"
    ] * 4
    assert plan().phase(0) == "composing"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"composing": 0}, "steps are >= 1"),
        ({"warmup_steps": -1}, "steps are >= 1"),
        ({"mixing": -1}, "steps are >= 1"),
        ({"batch_size": 1}, r"fit\(batch_size=1\): batch norms need at least 2"),
        ({"fake_class_rate": 1.0}, r"fake_class_rate=1.0\): a share in \[0, 1\)"),
        ({"fake_class_rate": -0.1}, "a share"),
        ({"area": 0.0}, r"area=0.0\): the wanted mean area is in \(0, 1\)"),
        ({"area": 1.0}, "wanted mean area"),
        ({"lr": 0.0}, "a learning rate in"),
        ({"lr": 1.0}, "a learning rate in"),
        ({"lr": float("nan")}, "a learning rate in"),
        ({"mixed_precision": "fp16"}, "'no' or 'bf16'"),
        ({"views_per_image": 0}, "views_per_image, gate_every, patience and save_every are >= 1"),
        ({"gate_every": 0}, "are >= 1"),
        ({"patience": 0}, "are >= 1"),
        ({"save_every": 0}, "are >= 1"),
    ],
)
def test_numbers_that_make_no_sense(options, words):
    with pytest.raises(InputError, match=words):
        plan(**options)


def test_a_step_says_what_it_does_not_know():
    step = FitStep(3, "warm-up", 1.5)
    assert step.area != step.area
    assert step.parts == {}
