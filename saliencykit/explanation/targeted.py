"""A black box whose output is a target's: what `explain(..., target=)` queries."""

from dataclasses import replace

from saliencykit.black_boxes.contrast import Contrast, ContrastBlackBox
from saliencykit.black_boxes.target_black_box import TargetBlackBox
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.types import Target
from saliencykit.data.label_lookup import class_index


def with_target(black_box: BlackBox, target: Contrast | Target) -> BlackBox:
    """The black box that returns the target's scores, or differences of logits for a contrast.

    Args:
        black_box: The model. A torch module's raw answer goes to the target; of any other black box
            its logits.
        target: See `explain`.

    Raises:
        InputError: The target is not callable, or the class of a contrast is unknown.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> with_target(PlantedEvidence(), lambda logits: logits[:, 0] - logits[:, 1]).output
        'score'
    """
    if isinstance(target, Contrast):
        return ContrastBlackBox(black_box, class_index(target.against, black_box))
    if not callable(target):
        raise InputError(
            f"target must be a callable from the model's answer to one score per image; got "
            f"{name_of(target)} {target!r}. A class is given as label=, its rival as "
            "target=Contrast(against=...)."
        )
    if isinstance(black_box, TorchBlackBox):
        return replace(black_box, target=target, output="score", class_names=None)
    return TargetBlackBox(black_box, target)
