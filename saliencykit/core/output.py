"""What a column of a black box's output means: probability, log-probability and margin of a label.

`softmax`: exclusive classes, `p_c = exp(z_c) / sum_j exp(z_j)`. `sigmoid`: independent labels,
`p_c = 1 / (1 + exp(-z_c))`. `score`: numbers without a scale, as of a regression or a similarity;
they are read relative to the image itself, see `RelativeScores`.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import torch
import torch.nn.functional as F
from torch import Tensor

from saliencykit.core.errors import ContractError
from saliencykit.core.types import Labels, Logits, PerImage

Output: TypeAlias = Literal["softmax", "sigmoid", "score"]
"""What a column of the output means: an exclusive class, an independent label, or a score."""

OUTPUTS: tuple[Output, ...] = ("softmax", "sigmoid", "score")

_EQUAL = 1e-5  # relative to the scores: a smaller difference is rounding noise


@final
@dataclass(frozen=True, eq=False)
class RelativeScores:
    """What a score means for the images of a batch: how much of what the image adds is there.

    With `s1` the score of the whole image and `s0` that of the fully replaced one, a score `s` is
    read as the log-odds `4 (s - (s1 + s0) / 2) / (s1 - s0)`: 2 for the whole image, -2 for the
    replaced one, whatever the scale and whichever is higher. Where the two agree there is nothing
    to explain, and it is 0 everywhere.

    `core.query_batches.relative_output` makes it.

    Attributes:
        whole: The scores of the whole images, (B, K).
        replaced: Those of the fully replaced ones, (B, K).

    Example:
        >>> relative = RelativeScores(torch.tensor([[30.0]]), torch.tensor([[70.0]]))
        >>> relative.logits(torch.tensor([[30.0], [40.0], [60.0]])).flatten().tolist()
        [2.0, 1.0, -1.0]
    """

    whole: Logits
    replaced: Logits

    def __getitem__(self, rows: Tensor | slice) -> "RelativeScores":
        """For some of the images, by number; a number may occur several times."""
        return RelativeScores(self.whole[rows], self.replaced[rows])

    @property
    def differ(self) -> Tensor:
        """Where the whole and the replaced image have different scores, (B, K) bool."""
        largest = torch.maximum(self.whole.abs(), self.replaced.abs())
        return (self.whole - self.replaced).abs() > _EQUAL * largest

    @property
    def direction(self) -> Tensor:
        """1 where the image raises the score, -1 where it lowers it, 0 where it does neither, (B,
        K).
        """
        return (self.whole - self.replaced).sign() * self.differ

    def logits(self, scores: Logits) -> Logits:
        """Scores as log-odds, to be read like those of `sigmoid`.

        Args:
            scores: (n * B, K): n times the images in their order, or any number of edits of one.

        Raises:
            ContractError: The number of scores is not a multiple of the number of images.
        """
        count = len(self.whole)
        if len(scores) % count:
            raise ContractError(f"{len(scores)} scores cannot be relative to {count} images.")
        span = torch.where(self.differ, self.whole - self.replaced, torch.inf)
        repeated = scores.view(-1, count, scores.shape[1])
        return (4 * (repeated - (self.whole + self.replaced) / 2) / span).flatten(0, 1)


Meaning: TypeAlias = Output | RelativeScores
"""What probabilities are computed with: an Output, and for scores the images' own scale."""


def as_logits(values: Logits, output: Meaning) -> tuple[Logits, Output]:
    """What a black box returned, as logits of `softmax` or `sigmoid`.

    Args:
        values: (B, K).
        output: What a column means.

    Raises:
        ContractError: It is `score`, without the images' own scale.
    """
    if isinstance(output, RelativeScores):
        return output.logits(values), "sigmoid"
    if output == "score":
        raise ContractError(
            "a score has no probability; read it relative to its image: output = "
            "relative_output(black_box, images, alternative, generator)."
        )
    return values, output


def both_answers(column: Tensor, output: Output) -> Tensor:
    """No and yes, as two columns, from the one column of a sigmoid.

    Args:
        column: (B, 1), the logit z of yes.
        output: What the two columns mean. `softmax`: they are `-z/2, z/2`; `sigmoid`: `-z, z`. Both
            ways p(yes) is `1 / (1 + exp(-z))`, and p(no) the rest.

    Returns:
        (B, 2).

    Example:
        >>> both_answers(torch.tensor([[3.0]]), "softmax").tolist()
        [[-1.5, 1.5]]
    """
    return torch.cat([-column, column], 1) / (2 if output == "softmax" else 1)


def relative_to(values: Tensor, against: int | None) -> Tensor:
    """Each class against one: the values of all classes, minus those of this one.

    Args:
        values: (B, K).
        against: The class, in [0, K). None: the values as they are.

    Example:
        >>> relative_to(torch.tensor([[1.0, 4.0, 3.0]]), 2).tolist()
        [[-2.0, 1.0, 0.0]]
    """
    return values if against is None else values - values[:, [against]]


def probability(logits: Logits, labels: Labels, output: Meaning) -> PerImage:
    """`f_c`, the probability of each row's label, in [0, 1].

    Args:
        logits: (B, K).
        labels: (B,) int64 in [0, K).
        output: What a column means.

    Example:
        >>> logits, label = torch.zeros(1, 4), torch.tensor([2])
        >>> [probability(logits, label, output).item() for output in ("softmax", "sigmoid")]
        [0.25, 0.5]
    """
    return log_probability(logits, labels, output).exp()


def reported(logits: Logits, labels: Labels, output: Output) -> PerImage:
    """The number that results show: the probability of each row's label, or its score as it is.

    Args:
        logits: (B, K).
        labels: (B,) int64 in [0, K).
        output: What a column means.

    Example:
        >>> reported(torch.tensor([[41.5]]), torch.tensor([0]), "score").item()
        41.5
    """
    if output == "score":
        return logits.gather(1, labels[:, None]).squeeze(1)
    return probability(logits, labels, output)


def log_probability(logits: Logits, labels: Labels, output: Meaning) -> PerImage:
    """`log f_c`, <= 0; computed without forming the probability, so that it stays finite.

    Args:
        logits: (B, K).
        labels: (B,) int64 in [0, K).
        output: What a column means.

    Example:
        >>> log_probability(torch.tensor([[0.0, 200.0]]), torch.tensor([0]), "softmax").item()
        -200.0
    """
    logits, known = as_logits(logits, output)
    all_log = F.log_softmax(logits, dim=1) if known == "softmax" else F.logsigmoid(logits)
    return all_log.gather(1, labels[:, None]).squeeze(1)


def margin(logits: Logits, labels: Labels, output: Meaning) -> PerImage:
    """The log-odds against the label, in nats: negative if the label wins.

    Args:
        logits: (B, K).
        labels: (B,) int64 in [0, K).
        output: What a column means. `softmax`: `max over j != c of z_j, minus z_c`, the distance
            to the strongest other class, 0 if K is 1; else `-z_c`.

    Example:
        >>> logits, label = torch.tensor([[1.0, 4.0, 3.0]]), torch.tensor([1])
        >>> [margin(logits, label, output).item() for output in ("softmax", "sigmoid")]
        [-1.0, -4.0]

    References:
        The hinge distance of the authors' published code (`sal/saliency_model.py`).
    """
    logits, known = as_logits(logits, output)
    own = logits.gather(1, labels[:, None]).squeeze(1)
    if known != "softmax":
        return -own
    if logits.shape[1] == 1:
        return own - own
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return torch.max(others, dim=1).values - own
