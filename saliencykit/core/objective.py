"""Trial, Term and Objective: one masking experiment, and its loss."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal, final

import torch
from torch import Generator, Tensor

from saliencykit.core import checks
from saliencykit.core.alternative import Alternative
from saliencykit.core.annotated_fields import check_fields
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.output import Meaning, probability
from saliencykit.core.query_batches import relative_output
from saliencykit.core.types import Images, Labels, Logits, Mask, PerImage

Fakes = Literal["area", "inverted"]


@final
@dataclass(frozen=True)
class Trial:
    """One masking experiment on a batch; terms need nothing else.

    Attributes:
        images: `X`.
        labels: The label whose evidence is measured: in training, always the true one.
        real: (B,) bool; False for a fake, where the mask is for a label that is not in the image.
        mask: `M`.
        preserved: `f(X*M + A*(1-M))`.
        destroyed: `f(X*(1-M) + A'*M)`, with `A'` drawn independently of `A`.
        output: What a column of the logits means, see `BlackBox`.

    Example:
        >>> images, mask = torch.zeros(1, 3, 2, 2), torch.ones(1, 1, 2, 2)
        >>> labels, real, logits = torch.tensor([1]), torch.tensor([True]), torch.zeros(1, 4)
        >>> Trial(images, labels, real, mask, logits, logits).mask.mean().item()
        1.0
    """

    images: Images
    labels: Labels
    real: Tensor
    mask: Mask
    preserved: Logits
    destroyed: Logits
    output: Meaning = "softmax"

    @property
    def kept(self) -> PerImage:
        """The probability of each label in `X*M + A*(1-M)`."""
        return probability(self.preserved, self.labels, self.output)

    @property
    def dropped(self) -> PerImage:
        """The probability of each label in `X*(1-M) + A'*M`."""
        return probability(self.destroyed, self.labels, self.output)


def kept_and_dropped(mask: Mask, real: Tensor, fakes: Fakes) -> tuple[Mask, Mask]:
    """The masks of the two edits, M and 1-M, which change places for inverted fakes."""
    if fakes == "area" or bool(real.all()):
        return mask, 1 - mask
    swap = ~real.view(-1, 1, 1, 1)
    return torch.where(swap, 1 - mask, mask), torch.where(swap, mask, 1 - mask)


def query_edits(
    query: Callable[[Tensor], Logits], edits: Tensor, real: Tensor, fakes: Fakes, num_classes: int
) -> Logits:
    """The logits of both edits, (2, B, K), in one query; those of fakes that only count for their
    area are 0.

    Args:
        query: From any number of edits to their logits.
        edits: (2, B, C, H, W).
        real: (B,) bool.
        fakes: See `run_trial`.
        num_classes: K.
    """
    count = edits.shape[1]
    if fakes != "area" or bool(real.all()):
        return query(edits.flatten(0, 1)).reshape(2, count, -1)
    logits = edits.new_zeros(2, count, num_classes)
    if bool(real.any()):
        some = query(edits[:, real].flatten(0, 1)).reshape(2, int(real.sum()), -1)
        logits = logits.to(some.dtype).index_copy(1, real.nonzero().flatten(), some)
    return logits


def run_trial(
    black_box: BlackBox,
    images: Images,
    labels: Labels,
    mask: Mask,
    *,
    alternative: Alternative,
    generator: Generator,
    real: Tensor | None = None,
    fakes: Fakes = "area",
    output: Meaning | None = None,
) -> Trial:
    """Make both edits with independent fills and query the black box once, with 2B images.

    Args:
        black_box: The classifier.
        images: (B, C, H, W), on the device of the black box.
        labels: (B,) int64.
        mask: (B, 1, H, W) in [0, 1]; gradients flow back to it.
        alternative: What replaces the pixels outside the mask.
        generator: Both fills are drawn from it.
        real: (B,) bool, all True by default.
        fakes: How to treat rows that are not real. `"area"` (the paper): they are not queried and
            their logits are 0; an Objective then counts only terms of the mask alone. `"inverted"`
            (the authors' code): M and 1-M change places.
        output: What a column of the logits means. None: as `relative_output` says, which queries a
            black box of scores twice more per image.

    Raises:
        InputError: Images, labels or `real` are malformed, or the black box raised.
        ContractError: The mask, the alternative or the black box broke its contract.

    Example:
        >>> from saliencykit.alternatives import Blur
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> mask, blur = torch.ones(2, 1, 16, 16), Blur(sigma=2.0)
        >>> trial = run_trial(black_box, images, labels, mask, alternative=blur, generator=g)
        >>> trial.preserved.shape
        torch.Size([2, 4])

    References:
        Dabkowski & Gal 2017, sections 3 and 4.
    """
    checks.images(images, "run_trial")
    checks.labels(labels, len(images), black_box.num_classes, "run_trial")
    checks.mask(mask, images, "the masker")
    real = torch.ones_like(labels, dtype=torch.bool) if real is None else real
    if real.dtype != torch.bool or real.shape != labels.shape:
        raise InputError(
            f"run_trial takes real as bool {tuple(labels.shape)}; got {real.dtype} of shape "
            f"{tuple(real.shape)}."
        )
    alternative = alternative.for_black_box(black_box)
    output = output or relative_output(black_box, images, alternative, generator)
    masks = kept_and_dropped(mask, real, fakes)
    edits = torch.stack([alternative.edit(images, each, generator) for each in masks])
    logits = query_edits(black_box, edits, real, fakes, black_box.num_classes)
    return Trial(images, labels, real, mask, logits[0], logits[1], output)


@dataclass(frozen=True, kw_only=True)
class Term(ABC):
    """One summand of an objective; lower is better.

    Args:
        weight: The factor of the penalty, finite, >= 0.

    Example:
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Corner(Term):
        ...     reads_logits = False
        ...     def penalty(self, trial):
        ...         return trial.mask[:, 0, 0, 0]
        >>> Corner(weight=2.0)
        Corner(weight=2.0)
    """

    weight: float = 1.0

    reads_logits: ClassVar[bool] = True
    """Does the penalty depend on logits? Then it does not count for fakes that were not queried."""

    def __post_init__(self) -> None:
        """Check the fields of a dataclass."""
        check_fields(self)

    @abstractmethod
    def penalty(self, trial: Trial) -> PerImage:
        """One number per image, unweighted, finite, differentiable with respect to `trial.mask`.

        Args:
            trial: The experiment on B images.
        """

    @final
    def __call__(self, trial: Trial) -> PerImage:
        """The weighted penalty, checked.

        Args:
            trial: The experiment on B images.

        Raises:
            ContractError: The penalty is not one finite float per image.
        """
        penalty = self.penalty(trial)
        checks.per_image(penalty, len(trial.images), f"{checks.name_of(self)}.penalty")
        return penalty * self.weight


@final
@dataclass(frozen=True)
class Loss:
    """The value of an objective for a trial.

    Attributes:
        total: The sum of the parts, (B,).
        parts: The weighted penalties, (B,) each, by the term's class name.

    Example:
        >>> parts = {"Area": torch.tensor([1.0]), "Smoothness": torch.tensor([2.0])}
        >>> Loss(torch.tensor([3.0]), parts).total.item()
        3.0
    """

    total: PerImage
    parts: dict[str, PerImage] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Objective:
    """A weighted sum of terms, at most one of each class; `parts` is keyed by class name, for logs.

    Args:
        terms: The summands, at least one.
        fakes: How to treat rows that are not real, see `run_trial`. With `"area"` only terms that
            do not read logits count for them.

    Raises:
        InputError: No terms, two of one class, a weight that is negative or not finite, or an
            unknown value of `fakes`.

    Example:
        >>> from saliencykit.terms import Area
        >>> Objective((Area(weight=4.0),)).terms[0].weight
        4.0

    References:
        Dabkowski & Gal 2017, equation 1.
    """

    terms: tuple[Term, ...]
    fakes: Fakes = "area"

    def __post_init__(self) -> None:
        """Check the weights, and that each part has a name of its own."""
        check_fields(self)
        names = [checks.name_of(term) for term in self.terms]
        if not names or len(set(names)) < len(names):
            raise InputError(
                f"an Objective takes at least one term and at most one of each class; got {names}."
            )
        for term in self.terms:
            if not isinstance(term, Term) or not 0 <= term.weight < float("inf"):
                raise InputError(
                    f"an Objective takes Terms with finite weights >= 0; got {term!r}."
                )

    def __call__(self, trial: Trial) -> Loss:
        """The loss of a trial.

        Args:
            trial: The experiment on B images.
        """
        parts = {}
        for term in self.terms:
            part = term(trial)
            if self.fakes == "area" and term.reads_logits:
                part = torch.where(trial.real, part, torch.zeros_like(part))
            parts[checks.name_of(term)] = part
        return Loss(torch.stack(list(parts.values())).sum(0), parts)
