"""The lines that fit prints."""

import math

from saliencykit.cli.fit import step_note, validation_note
from saliencykit.training.schedule import FitStep

HELD_OUT = {
    "n": 48,
    "whole": 0.8,
    "area": 0.105,
    "kept": 0.643,
    "dropped": 0.122,
    "fake": 0.135,
    "mosaic": 0.706,
}


def test_a_step_is_one_line():
    step = FitStep(7, "pixels", 3.21, of=9, area=0.3, fake_area=0.1, kept=0.5, dropped=0.2)
    assert step_note(step) == "loss 3.21 area 0.30 kept 0.50 dropped 0.20 fake class 0.10"
    assert step_note(FitStep(1, "warmup", 3.21, of=9)) == "loss 3.21"


def test_the_validation_is_one_line():
    assert validation_note(HELD_OUT) == (
        "held-out images (48): area 10.5%, kept 64.3%, dropped 12.2% (whole image 80.0%); a class "
        "that is not in the image gets 0.14 of the area; 0.71 of the mask in the right tile of "
        "mosaics (chance 0.25)"
    )
    few_classes = HELD_OUT | {"mosaic": math.nan}
    assert validation_note(few_classes).endswith("0.14 of the area")
