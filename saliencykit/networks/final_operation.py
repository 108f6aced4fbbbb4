"""FinalOperation: whether a model's answer is what a sigmoid or softmax in it made."""

from collections import deque
from typing import Any, final

import torch
from torch import Tensor

from saliencykit.networks.module_state import OperationMode

_PROBABILITIES = {"sigmoid", "softmax", "hardsigmoid"}
# how a sigmoid ends that is written by hand; logits may end so too
_ARITHMETIC = {"reciprocal", "div", "mul", "add", "sub", "rsub", "clamp", "where", "exp"}
_MOST_VALUES, _RESULTS = 1 << 16, 32  # of a result, and of results: those of heads are small


@final
class FinalOperation(OperationMode):  # type: ignore[no-untyped-call]
    """Remembers the results of the last operations that may have made probabilities.

    Example:
        >>> with FinalOperation() as final_operation:
        ...     answer = torch.sigmoid(torch.tensor([[1.0], [2.0]])).squeeze(1)
        >>> final_operation.made_probabilities(answer)
        True
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._results: deque[tuple[str, Tensor]] = deque(maxlen=_RESULTS)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operation."""
        result = func(*args, **(kwargs or {}))
        name = func.__name__.partition(".")[0].strip("_")
        is_result = name in _PROBABILITIES | _ARITHMETIC and isinstance(result, Tensor)
        if is_result and result.numel() <= _MOST_VALUES:
            self._results.append((name, result.detach()))
        return result

    def made_probabilities(self, answer: Tensor | None) -> bool | None:
        """Are the values of the answer, in whatever order and shape, those of a sigmoid or softmax?
        None: they may be.

        Args:
            answer: Of any shape.
        """
        made = {
            name
            for name, result in self._results
            if answer is not None and result.numel() >= answer.numel()
            if bool(torch.isin(answer.detach(), result.to(answer.dtype)).all())
        }
        return True if made & _PROBABILITIES else None if made else False
