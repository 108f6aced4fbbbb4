"""Verdict: what the trial of a mask shows, in one word."""

from enum import StrEnum
from typing import final

from saliencykit.core.output import Output, probability
from saliencykit.core.types import Labels, Logits

_HALF = 0.5
_ALIKE = 0.9  # of the whole image's probability: nothing that was replaced mattered
_STILL = 0.02  # of a score: it hardly changes
_LOWEST = 0.1  # a whole image with less shows too little of the class to measure what removes it


@final
class Verdict(StrEnum):
    """What keeping and removing a mask's pixels shows, relative to the whole image.

    With p the probability of the class, on the whole image, the fully replaced one, and the image
    with the mask's pixels kept or dropped, the first rule that holds decides:

    * `undecided`: p(whole) is below 0.1 or below chance, 1 / K;
    * `saturated`: kept and replaced both have at least 0.9 p(whole): nothing was tested;
    * *sufficient* if kept has at least half of p(whole), and is nearer to the whole image than to
      the replaced one; *necessary* if dropped has at most half of p(whole). `both`, `sufficient`,
      `necessary` or `neither`, as these two hold.

    Scores have no zero: their rules are the same ones for the share of the way from the fully
    replaced to the whole image. If these two differ by 2 % or less, the verdict is `saturated`:
    what an edit does to so still a score is as much the edit's as the image's.

    Example:
        >>> Verdict.of(whole=0.9, kept=0.8, dropped=0.1, replaced=0.01)
        <Verdict.BOTH: 'both'>
        >>> Verdict.BOTH.words
        'this region alone decides'
    """

    BOTH = "both"
    SUFFICIENT = "sufficient"
    NECESSARY = "necessary"
    NEITHER = "neither"
    SATURATED = "saturated"
    UNDECIDED = "undecided"

    @property
    def words(self) -> str:
        """The verdict as a clause that follows the numbers."""
        return _WORDS[self]

    @staticmethod
    def of(
        whole: float,
        kept: float,
        dropped: float,
        replaced: float | None = None,
        *,
        chance: float = 0.0,
    ) -> "Verdict":
        """The verdict of one image.

        Args:
            whole: Probability of the class on the whole image, in [0, 1].
            kept: With only the mask's pixels.
            dropped: Without them.
            replaced: Without any pixel of the image. None: not queried, taken as 0.
            chance: The probability of a class among equals: 1 / K for exclusive classes.
        """
        if whole < max(_LOWEST, chance):
            return Verdict.UNDECIDED
        empty = replaced or 0.0
        if min(kept, empty) >= _ALIKE * whole:
            return Verdict.SATURATED
        sufficient = kept >= _HALF * (whole + empty)
        necessary = dropped <= _HALF * whole
        if sufficient and necessary:
            return Verdict.BOTH
        if sufficient:
            return Verdict.SUFFICIENT
        return Verdict.NECESSARY if necessary else Verdict.NEITHER

    @staticmethod
    def of_scores(whole: float, kept: float, dropped: float, replaced: float) -> "Verdict":
        """The verdict of one image whose scores have no scale.

        Args:
            whole: Score of the whole image, any number.
            kept: With only the mask's pixels.
            dropped: Without them.
            replaced: Without any pixel of the image.
        """
        span = whole - replaced
        if abs(span) <= _STILL * max(abs(whole), abs(replaced)):
            return Verdict.SATURATED
        return Verdict.of(1.0, (kept - replaced) / span, (dropped - replaced) / span)


_WORDS = {
    Verdict.BOTH: "this region alone decides",
    Verdict.SUFFICIENT: "this region is enough, but so is the rest of the image",
    Verdict.NECESSARY: "this region is needed, but is not enough alone",
    Verdict.NEITHER: "this region does not decide; do not trust the mask",
    Verdict.SATURATED: "the answer stays without any of the image's pixels; nothing was tested",
    Verdict.UNDECIDED: "the answer is too uncertain to test",
}


def verdicts(
    labels: Labels,
    logits: Logits,
    preserved: Logits,
    destroyed: Logits,
    replaced: Logits | None = None,
    *,
    output: Output = "softmax",
) -> tuple[Verdict, ...]:
    """The verdict of each image of a batch.

    Args:
        labels: (B,) int64.
        logits: Of the whole images, (B, K).
        preserved: With only the masked region, (B, K).
        destroyed: With the masked region replaced, (B, K).
        replaced: With all pixels replaced, (B, K), or None; scores need it, and are `undecided`
            without.
        output: What a column means.

    Example:
        >>> import torch
        >>> strong, weak = torch.tensor([[5.0, 0.0]]), torch.tensor([[-5.0, 0.0]])
        >>> verdicts(torch.tensor([0]), strong, strong, weak, weak)
        (<Verdict.BOTH: 'both'>,)
    """
    trials = [logits, preserved, destroyed] + ([] if replaced is None else [replaced])
    if output == "score":
        if replaced is None:
            return (Verdict.UNDECIDED,) * len(labels)
        scores = (each.gather(1, labels[:, None])[:, 0].tolist() for each in trials)
        return tuple(Verdict.of_scores(*row) for row in zip(*scores, strict=True))
    rows = zip(*(probability(each, labels, output).tolist() for each in trials), strict=True)
    chance = 1 / logits.shape[1] if output == "softmax" else 0.0
    return tuple(Verdict.of(*row, chance=chance) for row in rows)
