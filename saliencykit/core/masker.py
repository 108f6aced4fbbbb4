"""Masker: an attribution method that returns a mask."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeAlias, final

import torch
import torch.nn.functional as F
from torch import Generator

from saliencykit.core import checks, rng
from saliencykit.core.annotated_fields import check_fields
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import ContractError, GradientError, SaliencyKitError
from saliencykit.core.map_placement import resize_maps
from saliencykit.core.masker_output import MaskerOutput, placed_on, ranked
from saliencykit.core.types import Images, Labels, Logits, Mask

Inputs: TypeAlias = Literal["raw", "normalized"]
"""What images hold: raw RGB in [0, 1], or what the model itself takes."""


def ranked_by(
    masker: "Masker", black_box: BlackBox, images: Images, labels: Labels, generator: Generator
) -> MaskerOutput:
    """What a masker's `mask` returns, checked, and `ranked`; arguments as of `mask`.

    Raises:
        ContractError: The mask breaks its contract.
    """
    answer = masker.mask(black_box, images, labels, generator)
    output = answer if isinstance(answer, MaskerOutput) else MaskerOutput(answer)
    checks.mask(output.mask, images, f"{checks.name_of(masker)}.mask", any_size=True)
    return ranked(output, images.shape[2:])


class Masker(ABC):
    """An attribution method that returns a mask: an optimizer, a trained network, a sampler, or a
    method of another library.

    Call the object; implement `mask`. Everything else below it is optional: what a masker is also
    able to do, it says here, and callers look nowhere else.

    Example:
        >>> class Everything(Masker):
        ...     def mask(self, black_box, images, labels, generator):
        ...         return torch.ones(len(images), 1, 1, 1)
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> Everything()(black_box, *black_box.examples(2, generator=g), generator=g).shape
        torch.Size([2, 1, 16, 16])
    """

    needs_gradient: ClassVar[bool] = False
    """Does `mask` take gradients of the black box?"""

    confidence: float | None = None
    """For maskers with a field `confidence` that makes masks smaller (> 0) or larger (< 0), in
    log-odds; None for all others.
    """

    budget: float | None = None
    """The area of every mask, a fraction of the pixels in (0, 1); None where the masker chooses it.
    """

    def __post_init__(self) -> None:
        """Check the fields of a dataclass."""
        check_fields(self)

    @abstractmethod
    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Mask | MaskerOutput:
        """Compute the masks; must not keep state between calls.

        Args:
            black_box: The classifier.
            images: (B, C, H, W) on the black box's device, without gradient.
            labels: (B,) int64, the class that each mask explains.
            generator: Draw from it with `core.rng` only, so that an image gets the same mask alone
                and in a batch.

        Returns:
            (B, 1, h, w) in [0, 1], h and w at most H and W; or `MaskerOutput(mask, attributions,
            standard_error)`, with raw, signed attributions and an estimate of their error.
        """

    def for_black_box(self, black_box: BlackBox, *, inputs: Inputs = "raw") -> "Masker":
        """The masker made ready for one black box; by default itself. It is called once per black
        box, by `bound_to`, before the first image.

        Args:
            black_box: The classifier.
            inputs: What the images will hold.

        Raises:
            InputError: The masker does not work with this black box or with such images.
        """
        return self

    @final
    def bound_to(self, black_box: BlackBox, *, inputs: Inputs = "raw") -> "Masker":
        """What `for_black_box` returns, checked; callers use this one.

        Args:
            black_box: The classifier.
            inputs: What the images will hold.

        Raises:
            InputError: The masker does not work with this black box or with such images.
            ContractError: `for_black_box` raised something else, or returned no Masker.
        """
        who = f"{checks.name_of(self)}.for_black_box"
        with checks.no_exit(who):
            try:
                masker = self.for_black_box(black_box, inputs=inputs)
            except SaliencyKitError:
                raise
            except Exception as error:
                raise ContractError(f"{who} raised {checks.reason_of(error)}") from error
        if not isinstance(masker, Masker):
            raise ContractError(f"{who} returned {checks.name_of(masker)}; expected a Masker.")
        return masker

    def one_pass(self, black_box: BlackBox, images: Images) -> tuple["Masker", Logits] | None:
        """Classify images and prepare their masks in the same forward pass; by default None.

        Implement it for masks that come from features of the classifier: callers save a pass.

        Args:
            black_box: The one that `for_black_box` got, or its optimized copy.
            images: (B, C, H, W) on its device.

        Returns:
            A masker that is only called on these images, and their logits (B, K).
        """
        return None

    def evaluations(self, black_box: BlackBox, images: Images) -> int | None:
        """How many evaluations of the black box one mask takes, for progress bars; by default None:
        not known before.

        Args:
            black_box: The classifier.
            images: (B, C, H, W); their size counts.
        """
        return None

    @property
    def fit_options(self) -> Mapping[str, object] | None:
        """The options with which `saliencykit.fit` trains such a masker again, for sanity checks;
        None if it is not trained.
        """
        return None

    def remarks(self, images: Images, logits: Logits, labels: Labels) -> tuple[str, ...]:
        """What a reader of these masks has to know, a sentence per image; by default nothing. An
        Explanation has them in its provenance, and prints them.

        Args:
            images: (B, C, H, W), explained.
            logits: (B, K), of these images.
            labels: (B,), the explained classes.

        Returns:
            B sentences, or none.
        """
        return ()

    def identity(self) -> str:
        """A text that differs where masks may differ, by which a run tells whether it may be
        resumed; by default the repr.
        """
        return repr(self)

    @final
    def with_budget(self, budget: float | None) -> "Masker":
        """The same masker with a mask of a given area, in the order of its own mask; see
        `MaskerOutput.nested`.

        Args:
            budget: The mask's area, a fraction of the pixels in (0, 1). None: the one that the
                masker chooses.

        Raises:
            InputError: The budget is outside (0, 1).

        Example:
            >>> from saliencykit.maskers import CenterBox
            >>> from saliencykit.testing import PlantedEvidence
            >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
            >>> masker, examples = CenterBox().with_budget(0.1), black_box.examples(1, generator=g)
            >>> round(masker(black_box, *examples, generator=g).mean().item(), 2)
            0.1
        """
        return self if budget is None else _WithBudget(self, budget)

    @final
    @property
    def has_one_pass(self) -> bool:
        """Does the class implement `one_pass`?"""
        return type(self).one_pass is not Masker.one_pass

    @final
    def predict_masker(self, black_box: BlackBox, images: Images) -> tuple["Masker", Logits]:
        """Classify images, once: `one_pass` where there is one, else the black box and the masker
        itself.

        Args:
            black_box: The one that `for_black_box` got, or its optimized copy.
            images: (B, C, H, W) on its device.

        Returns:
            The masker to call on these images, and their logits (B, K), without gradient.

        Raises:
            InputError: Images are malformed, or the black box raised.
            ContractError: `one_pass` or the black box returned something else.
        """
        if not self.has_one_pass:
            with torch.no_grad():
                return self, black_box(images)
        who = f"{checks.name_of(self)}.one_pass"
        checks.images(images, who)
        with checks.no_exit(who), self._grad_mode():
            answer = self.one_pass(black_box, images.detach())
        if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[0], Masker):
            raise ContractError(
                f"{who} returned {checks.name_of(answer)}; expected a Masker and logits, (B, K)."
            )
        masker, logits = answer
        checks.logits(logits, len(images), black_box.num_classes, who)
        return masker, logits.detach()

    @final
    def attribute(
        self, black_box: BlackBox, images: Images, labels: Labels, *, generator: Generator
    ) -> MaskerOutput:
        """The mask with the raw attributions and their error, where there are any; all enlarged to
        the size of the images.

        Args:
            black_box: The classifier.
            images: (B, C, H, W) on the black box's device.
            labels: (B,) int64 in [0, K).
            generator: Advances by one number.

        Returns:
            Mask, attributions and error at (H, W), detached, and the mask at its own resolution.

        Raises:
            InputError: Images or labels are malformed, or the black box raised.
            GradientError: Gradients are needed and the black box is query-only; raised before any
                query.
            ContractError: The mask or the black box's answer breaks its contract.
        """
        who = checks.name_of(self)
        checks.images(images, who)
        checks.labels(labels, len(images), black_box.num_classes, who)
        if self.needs_gradient and not black_box.differentiable:
            raise GradientError(
                f"{who} needs gradients and {checks.name_of(black_box)} is query-only. Use "
                "masker='rise' or 'occlusion', or explain a differentiable model of the same "
                "task."
            )
        # the caller's generator advances by one number, whatever `mask` draws
        own = rng.fork(generator)
        with checks.no_exit(f"{who}.mask"), self._grad_mode():
            if images.is_inference():
                images, labels = images.clone(), labels.clone()
            answer = self.mask(black_box, images.detach(), labels, own)
        output = answer if isinstance(answer, MaskerOutput) else MaskerOutput(answer)
        size = images.shape[2:]
        checks.mask(output.mask, images, f"{who}.mask", any_size=True)
        checks.maps(output.attributions, len(images), f"{who}.mask: attributions")
        checks.maps(output.standard_error, len(images), f"{who}.mask: standard_error", flat=True)
        if output.box_threshold is not None:
            checks.per_image(output.box_threshold, len(images), f"{who}.mask: box_threshold")
        by_channel = output.channel_attributions
        checks.maps(
            by_channel, len(images), f"{who}.mask: channel_attributions", channels=images.shape[1]
        )
        if by_channel is not None:
            by_channel = resize_maps(by_channel.detach(), size)
        small, placed = output.mask.detach().clamp(0, 1), placed_on(output, size)
        if any(output.offset):  # moved on a finer grid, which loses little
            height, width = (min(4 * s, p) for s, p in zip(small.shape[2:], size, strict=True))
            small = F.adaptive_avg_pool2d(placed.mask, (height, width))
        return replace(placed, low_res_mask=small, channel_attributions=by_channel)

    @contextmanager
    def _grad_mode(self) -> Iterator[None]:
        """Gradients where `mask` needs them, whatever the caller's mode is."""
        with torch.inference_mode(False), torch.set_grad_enabled(self.needs_gradient):
            yield

    @final
    def __call__(
        self, black_box: BlackBox, images: Images, labels: Labels, *, generator: Generator
    ) -> Mask:
        """The mask, checked, upsampled bilinearly to (H, W), detached.

        Opens its own grad mode (enabled iff `needs_gradient`), so it works inside a caller's
        `no_grad`. Arguments and errors are those of `attribute`.
        """
        return self.attribute(black_box, images, labels, generator=generator).mask


@final
@dataclass(frozen=True, repr=False)
class _WithBudget(Masker):
    """A masker whose masks have a given area."""

    masker: Masker
    budget: float = 0.1

    def __post_init__(self) -> None:
        who = f"{checks.name_of(self.masker)}.with_budget"
        checks.numbers(who, "(0, 1)", budget=self.budget)
        # what the class says elsewhere, its masker says here
        object.__setattr__(self, "needs_gradient", self.masker.needs_gradient)

    @property
    def stands_for(self) -> Masker:
        """The masker, for messages."""
        return self.masker

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        output = ranked_by(self.masker, black_box, images, labels, generator)
        return replace(output, mask=output.nested((self.budget,)), box_threshold=None)

    def for_black_box(self, black_box: BlackBox, *, inputs: Inputs = "raw") -> Masker:
        return self.masker.bound_to(black_box, inputs=inputs).with_budget(self.budget)

    def one_pass(self, black_box: BlackBox, images: Images) -> tuple[Masker, Logits]:
        masker, logits = self.masker.predict_masker(black_box, images)
        return masker.with_budget(self.budget), logits

    def evaluations(self, black_box: BlackBox, images: Images) -> int | None:
        return self.masker.evaluations(black_box, images)

    @property
    def fit_options(self) -> Mapping[str, object] | None:
        return self.masker.fit_options

    def identity(self) -> str:
        return f"{self.masker.identity()} with_budget({self.budget})"

    def __repr__(self) -> str:
        return f"{self.masker!r}.with_budget({self.budget})"


class TrainedMaskerFactory(ABC):
    """A factory of a masker that was trained for one model. A plugin that provides it by name gets
    its masker used wherever that model is explained without naming a masker.
    """

    @abstractmethod
    def fits(self, black_box: BlackBox) -> bool:
        """Was the masker trained for exactly these weights? Cheap where the answer is no.

        Args:
            black_box: The classifier that is to be explained.
        """

    @abstractmethod
    def __call__(self) -> Masker:
        """The masker."""
