"""Sanity checks of a masker: is its mask about the class, or is the class written into it; and does
it rest on the model?
"""

from saliencykit.sanity.class_leakage_check import ClassLeakage, class_leakage
from saliencykit.sanity.model_randomization_check import ModelRandomization, model_randomization
from saliencykit.sanity.run_checks import CHECKS, SanityReport, sanity_checks
from saliencykit.sanity.wrong_label_check import WrongLabel, wrong_label

__all__ = [
    "CHECKS",
    "ClassLeakage",
    "ModelRandomization",
    "SanityReport",
    "WrongLabel",
    "class_leakage",
    "model_randomization",
    "sanity_checks",
    "wrong_label",
]
