"""RepeatedQueries: a model that answers differently each time, averaged."""

from math import log
from typing import Literal, TypeGuard, final

import torch
import torch.nn.functional as F
from torch import Tensor

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core import checks
from saliencykit.core.black_box import BlackBox
from saliencykit.core.black_box_wrapper import BlackBoxWrapper
from saliencykit.core.types import Images, Logits
from saliencykit.networks.module_state import RandomDraws
from saliencykit.networks.structure_cache import StructureCache
from saliencykit.networks.tolerance import close_to_rounding

_OTHER_SEED = 2**61 - 1  # unlike any that a user would set
_steady: StructureCache[bool] = StructureCache()
"""Modules that answered the same query alike."""


@final
class RepeatedQueries(BlackBoxWrapper):
    """A black box whose probabilities are the mean over several queries.

    For models that are not deterministic: dropout or noise left on by design, services that sample.
    A mask explains the mean answer; every query costs `repeats` queries. With `output="score"` the
    scores are averaged. Maskers that read a model's layers, such as class activation maps, do not
    work with it.

    Args:
        black_box: The black box inside.
        repeats: Number of queries, >= 1.

    Raises:
        InputError: `repeats` is not a whole number >= 1.

    Example:
        >>> from saliencykit.testing import Counting, PlantedEvidence
        >>> counting, images = Counting(PlantedEvidence()), torch.rand(2, 3, 16, 16)
        >>> logits = RepeatedQueries(counting, repeats=3)(images)
        >>> counting.num_images, torch.allclose(logits, counting(images).log_softmax(1), atol=1e-5)
        (6, True)
    """

    def __init__(self, black_box: BlackBox, repeats: int) -> None:
        super().__init__(black_box)
        self.module = None  # whoever reads layers expects one forward pass per query
        self.repeats = repeats
        checks.counts("RepeatedQueries", repeats=repeats)

    def __repr__(self) -> str:
        """That of the black box inside, and the number."""
        return f"RepeatedQueries({self.black_box!r}, repeats={self.repeats})"

    def logits(self, images: Images) -> Logits:
        """The logits of the mean probabilities."""
        answers = torch.stack([_answer(self.black_box, images, n) for n in range(self.repeats)])
        if self.output == "score":
            return answers.mean(0)
        if self.output == "sigmoid":
            return _log_mean(F.logsigmoid(answers)) - _log_mean(F.logsigmoid(-answers))
        return _log_mean(answers.log_softmax(2))


def averaged(black_box: BlackBox, repeats: int) -> BlackBox:
    """The black box itself for one query, else its mean over `repeats` queries.

    Raises:
        InputError: `repeats` is not a whole number >= 1.
    """
    return black_box if repeats == 1 else RepeatedQueries(black_box, repeats)


def unsteadiness(black_box: BlackBox, image: Images) -> Literal["random", "batch"] | None:
    """Why queries with the same image differ by more than rounding: `random`, in two queries;
    `batch`, with another image beside it. None: they do not.

    Args:
        black_box: The classifier.
        image: (1, C, H, W) on its device.
    """
    with torch.no_grad(), RandomDraws() as draws:
        first = black_box(image)
    with torch.no_grad():
        # seeding is for models that draw: another thread may be using the global state
        second = _answer(black_box, image, _OTHER_SEED) if draws.any else black_box(image)
        if not close_to_rounding(first, second):
            return "random"
        if _is_plain(black_box):
            beside = black_box(torch.cat([image, image.flip(3) / 2]))[:1]
            if not close_to_rounding(first, beside):
                return "batch"
            _steady.of(black_box.source_module)["steady"] = True
    return None


def is_known_as_steady(black_box: BlackBox) -> bool:
    """Did `unsteadiness` find none before, with the layers as they are?

    Args:
        black_box: The classifier. Of one that is no plain torch module nothing is known.
    """
    return _is_plain(black_box) and _steady.of(black_box.source_module).get("steady", False)


def _is_plain(black_box: BlackBox) -> TypeGuard[TorchBlackBox]:
    """Is it a torch module, and nothing of the user's around that could draw numbers?"""
    return isinstance(black_box, TorchBlackBox) and black_box.target is None


def _answer(black_box: BlackBox, images: Images, number: int) -> Logits:
    """The answer to one of several queries; torch's global state, which it draws from, is put back.

    A torch module draws the same numbers in every query, because queries leave that state as it
    was. Here each one starts from its own, and the mean is a function of the images.
    """
    devices = [black_box.device] if black_box.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):  # unlike `rng.isolated` it keeps the grad mode
        torch.manual_seed(number)
        return black_box(images)


def _log_mean(logs: Tensor) -> Tensor:
    """`log(mean(exp(logs)))` over the first dimension."""
    return logs.logsumexp(0) - log(len(logs))
