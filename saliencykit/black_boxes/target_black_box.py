"""TargetBlackBox: the scores of a target in place of a model's own answer."""

from typing import final

from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.black_box_wrapper import BlackBoxWrapper
from saliencykit.core.checks import describe, name_of
from saliencykit.core.errors import ContractError, InputError, SaliencyKitError
from saliencykit.core.types import Images, Logits, Target
from saliencykit.core.visible_text import first_line


@final
class TargetBlackBox(BlackBoxWrapper):
    """A black box that returns a target's scores of the logits of another one.

    Args:
        black_box: Its logits (B, K) are the answer that the target reads.
        target: From the answer to the scores.
    """

    def __init__(self, black_box: BlackBox, target: Target) -> None:
        super().__init__(black_box)
        self.target = self._target = target
        self.output, self.class_names = "score", None
        self._num_classes = 0

    def __repr__(self) -> str:
        """The black box and the target."""
        return f"TargetBlackBox({self.black_box!r}, {self.target!r})"

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """K of the scores, known after the first query."""
        if not self._num_classes:
            raise InputError(f"{self!r}: the number of scores is known after the first query.")
        return self._num_classes

    def logits(self, images: Images) -> Logits:
        """The scores, (B, K)."""
        answer = self.black_box(images)
        scores = read_scores(self._target, answer, len(images), repr(self.black_box))
        self._num_classes = scores.shape[1]
        return scores.to(images.dtype)


def read_scores(target: Target, answer: object, batch_size: int, who: str) -> Logits:
    """The scores of a target, (B, K).

    Args:
        target: The callable.
        answer: What the model returned.
        batch_size: B, the number of images.
        who: The model's name, for the error.

    Raises:
        InputError: The target raised.
        ContractError: It returned something else than (B,) or (B, K) floats.
    """
    try:
        scores = target(answer)
    except SaliencyKitError:
        raise
    except Exception as error:
        raise InputError(
            f"the target {name_of(target)} raised {type(error).__name__} on what {who} returned, "
            f"{name_of(answer)}: {first_line(error)}. It gets the model's own answer for a batch; "
            "write target=lambda answer: ..., which returns one score per image."
        ) from error
    if isinstance(scores, Tensor) and scores.is_floating_point():
        shaped = scores[:, None] if scores.ndim == 1 else scores
        shaped = shaped.reshape(1, 1) if batch_size == 1 and scores.ndim == 0 else shaped
        if shaped.ndim == 2 and len(shaped) == batch_size and shaped.shape[1] > 0:
            return shaped
    came = f"{describe(scores)} for {batch_size} images"
    raise ContractError(
        f"the target {name_of(target)} returned {came}; expected one float per image, a tensor "
        f"({batch_size},), or ({batch_size}, K) for K things to explain."
    )
