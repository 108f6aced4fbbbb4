"""The batch runner: explains a batch of images; what fails as a batch is tried image by image."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar, final

import torch
from torch import Generator

from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import DeviceMemoryError
from saliencykit.core.masker import Masker
from saliencykit.core.masker_output import MaskerOutput
from saliencykit.core.objective import Trial, run_trial
from saliencykit.core.output import Output, RelativeScores
from saliencykit.core.query_batches import shared_fill
from saliencykit.core.types import Images, Labels, Logits, Mask
from saliencykit.core.verdict import Verdict, verdicts

OUT_OF_MEMORY = "needs more memory than"
"""In the failure of an image for which the device's memory was too small."""
_T = TypeVar("_T")


@final
@dataclass(frozen=True)
class BatchResult:
    """What a black box and a masker say of a batch.

    Attributes:
        logits: Of the whole images.
        labels: The explained classes.
        output: The masks.
        trial: The logits of the kept and the dropped images; None where they were not queried.
        replaced: The logits of the images with all pixels replaced, or None.
    """

    logits: Logits
    labels: Labels
    output: MaskerOutput
    trial: Trial | None = None
    replaced: Logits | None = None

    def verdicts(self, output: Output) -> tuple[Verdict, ...] | None:
        """The verdict of each image; None where nothing was queried.

        Args:
            output: What a column of the logits means.
        """
        if self.trial is None:
            return None
        trials = (self.logits, self.trial.preserved, self.trial.destroyed, self.replaced)
        return verdicts(self.labels, *trials, output=output)


def explain_batch(
    black_box: BlackBox,
    masker: Masker,
    images: Images,
    choose_labels: Callable[[Logits], Labels],
    *,
    fill: Alternative | None,
    seed: int,
    optimized: BlackBox | None = None,
) -> BatchResult:
    """Predict, attribute and verify images that fit into memory together.

    Args:
        black_box: The classifier.
        masker: Made ready for it, see `Masker.for_black_box`.
        images: (B, C, H, W) on the black box's device.
        choose_labels: From the logits to the labels (B,).
        fill: Replaces pixels in the verification; None: do not verify.
        seed: Random seed.
        optimized: The black box's optimized copy, if there is one.

    Raises:
        SaliencyKitError: As of `explain`.
    """
    queried, generator = optimized or black_box, Generator().manual_seed(seed)
    masker, logits = masker.predict_masker(queried, images)
    labels = choose_labels(logits)
    output = masker.attribute(black_box, images, labels, generator=generator)
    result = BatchResult(logits, labels, output)
    return result if fill is None else verified(result, queried, images, fill, generator)


def verified(
    result: BatchResult,
    black_box: BlackBox,
    images: Images,
    fill: Alternative,
    generator: Generator,
) -> BatchResult:
    """The result, with what the black box says of the kept, the dropped and the fully replaced
    images.

    Args:
        result: Labels and masks.
        black_box: Is queried.
        images: (B, C, H, W) on its device.
        fill: Replaces pixels.
        generator: The fills are drawn from it.
    """
    labels, mask = result.labels, result.output.mask
    fill = _drawn_once(fill, images, generator)
    with torch.no_grad():
        trial = run_trial(black_box, images, labels, mask, alternative=fill, generator=generator)
        if isinstance(trial.output, RelativeScores):
            replaced = trial.output.replaced
        else:
            replaced = black_box(fill.edit(images, torch.zeros_like(mask), generator))
    return replace(result, trial=trial, replaced=replaced)


@final
@dataclass(frozen=True)
class _Drawn(Alternative):
    """A fill of some images that exists already."""

    drawn: Images

    def fill(self, images: Images, generator: Generator, mask: Mask | None = None) -> Images:
        return self.drawn


def _drawn_once(fill: Alternative, images: Images, generator: Generator) -> Alternative:
    """The fill, computed once where nothing about it is random, such as blur."""
    before = generator.get_state()
    drawn = shared_fill(fill, images, generator)
    if drawn is not None and torch.equal(before, generator.get_state()):
        return _Drawn(drawn)
    generator.set_state(before)
    return fill


def run_batch(
    work: Callable[[Sequence[int]], Sequence[_T]],
    rows: Sequence[int],
    on_failure: Callable[[int, Exception], _T],
    *,
    device: torch.device,
    who: str,
    split: bool = False,
) -> list[_T]:
    """The results of a batch; if it fails, of each image alone, so that one image costs no other.

    Args:
        work: From rows of the batch to one result for each of them.
        rows: All rows of the batch.
        on_failure: From a row that fails alone, and its error, to its result; or raises.
        device: Computes; for the error.
        who: What needs the memory; for the error.
        split: Also try each image alone where the memory is too small for the batch.

    Raises:
        DeviceMemoryError: The device's memory is too small for several images; the message says
            what to do.

    Example:
        >>> def halve(rows):
        ...     return [6 // row for row in rows]
        >>> cpu = torch.device("cpu")
        >>> run_batch(halve, [2, 0], lambda row, error: str(error), device=cpu, who="halve")
        [3, 'integer division or modulo by zero']
    """
    try:
        with memory_advice(device, who, len(rows)):
            return list(work(rows))
    except DeviceMemoryError as error:
        if len(rows) == 1:  # one image that is too large is not the end of a run
            return [on_failure(rows[0], error)]
        if not split:
            raise
    except Exception as error:
        if len(rows) == 1:
            return [on_failure(rows[0], error)]
    singles = (run_batch(work, [row], on_failure, device=device, who=who) for row in rows)
    return [result for results in singles for result in results]


@contextmanager
def memory_advice(device: torch.device, who: str, count: int) -> Iterator[None]:
    """Say what to do where the device's memory is too small.

    Args:
        device: Computes.
        who: What needs the memory.
        count: The number of images in the batch.

    Raises:
        DeviceMemoryError: In place of an out-of-memory error of torch or Python.
    """
    try:
        yield
    except (torch.cuda.OutOfMemoryError, MemoryError) as error:
        advice = (
            f"a batch of {count} images; use a smaller batch, batch_size=1 (--batch-size 1)."
            if count > 1
            else "one image; use smaller images, a smaller model or another device."
        )
        raise DeviceMemoryError(f"{who} {OUT_OF_MEMORY} {device} has for {advice}") from error
