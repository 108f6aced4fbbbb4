"""Contrast: why this class rather than that one."""

from dataclasses import dataclass, field
from typing import final

from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.black_box_wrapper import BlackBoxWrapper
from saliencykit.core.errors import InputError
from saliencykit.core.output import relative_to
from saliencykit.core.types import Images, Logits


@final
@dataclass(frozen=True)
class Contrast:
    """Why a class rather than another: each class against one, `z_c - z_d`.

    With exclusive classes `1 / (1 + exp(z_d - z_c))` is the probability of c, given that it is c or
    d. What both classes share, such as the fur of two cats, cancels out.

    Args:
        label: The class to explain, an index or a name. None: that of `explain`, or the top class.
        against: The class that it is compared with, an index or a name.

    Example:
        >>> import torch
        >>> from saliencykit import explain
        >>> from saliencykit.testing import PlantedEvidence
        >>> images = torch.rand(2, 3, 16, 16)
        >>> why = Contrast(0, against=3)
        >>> answer = explain(PlantedEvidence(), images, target=why, masker="rise:samples=32")
        >>> answer.logits[:, 3].tolist()
        [0.0, 0.0]

    References:
        Selvaraju et al. 2017, "Grad-CAM", section 3.3 (counterfactuals), and Prabhushankar et al.
        2020, "Contrastive Explanations in Neural Networks": the gradient of such a difference.
    """

    label: int | str | None = None
    against: int | str = field(kw_only=True)


def contrast(against: int | str | None) -> Contrast | None:
    """A contrast with this class, if there is one.

    Example:
        >>> contrast("tiger cat")
        Contrast(label=None, against='tiger cat')
    """
    return None if against is None else Contrast(against=against)


@final
class ContrastBlackBox(BlackBoxWrapper):
    """A classifier whose logits are differences, `z_c - z_d` for each class c.

    Args:
        black_box: The classifier; its output is `softmax` or `sigmoid`.
        against: d, an index in [0, K).

    Raises:
        InputError: The output is a score, or there is no such class.
    """

    def __init__(self, black_box: BlackBox, against: int) -> None:
        super().__init__(black_box)
        if black_box.output == "score" or black_box.against is not None:
            raise InputError(
                "a contrast compares two classes of a classifier; this black box returns "
                f"{'scores' if black_box.output == 'score' else 'differences already'}. Write "
                "target=lambda answer: answer[:, a] - answer[:, b]."
            )
        self.against = self._against = against
        self.output = "sigmoid"

    def __repr__(self) -> str:
        """The classifier and the class."""
        return f"ContrastBlackBox({self.black_box!r}, against={self.against})"

    def logits(self, images: Images) -> Logits:
        """The differences, (B, K)."""
        logits: Tensor = self.black_box(images)
        if not 0 <= self._against < logits.shape[1]:
            raise InputError(
                f"against={self.against} is outside 0..{logits.shape[1] - 1}, the classes of the "
                "model."
            )
        return relative_to(logits, self._against)
