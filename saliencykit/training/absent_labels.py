"""Labels of classes that an image does not show, for which the mask must be empty."""

import torch
from torch import Generator, Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.output import Output
from saliencykit.core.types import Labels, Logits


def has_fakes(black_box: BlackBox) -> bool:
    """Can a label be absent from an image? Scores are of every image, and so is a single class.

    Args:
        black_box: The classifier.
    """
    return black_box.output != "score" and black_box.num_classes > 1


def absent_labels(logits: Logits, output: Output) -> Tensor | None:
    """Labels that the classifier denies, (B, K) bool on the CPU; None where classes exclude each
    other, so that all but one are absent.

    Args:
        logits: (B, K).
        output: What a column means.
    """
    return (logits <= 0).cpu() if output == "sigmoid" else None


def other_labels(
    labels: Labels, num_classes: int, generator: Generator, absent: Tensor | None = None
) -> Labels:
    """A random other class for each label, all equally likely; the label itself if K is 1.

    Args:
        labels: (B,) int64 on the CPU.
        num_classes: K.
        generator: Draws the classes.
        absent: (B, K) bool; only these are drawn, where there are any. None: all.
    """
    if num_classes < 2:
        return labels.clone()
    if absent is not None:
        others = torch.ones_like(absent).scatter(1, labels[:, None], False)
        usable = torch.where((absent & others).any(1, keepdim=True), absent & others, others)
        return torch.multinomial(usable.float(), 1, generator=generator)[:, 0]
    steps = torch.randint(1, num_classes, labels.shape, generator=generator, device="cpu")
    return (labels + steps) % num_classes
