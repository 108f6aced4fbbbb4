"""Sanity checks of a masker: is its mask about the class, or is the class written into it; and does
it rest on the model?
"""

from saliencykit.sanity.class_leakage import EncodingProbe, encoding_probe
from saliencykit.sanity.model_randomization import RandomisedBox, randomised_box
from saliencykit.sanity.sanity_checks import CHECKS, SanityReport, sanity_checks
from saliencykit.sanity.wrong_label import WrongLabel, wrong_label

__all__ = [
    "CHECKS",
    "EncodingProbe",
    "RandomisedBox",
    "SanityReport",
    "WrongLabel",
    "encoding_probe",
    "randomised_box",
    "sanity_checks",
    "wrong_label",
]
