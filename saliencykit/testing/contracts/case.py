"""Clause and Case: one thing that a contract promises, and one part on one input that keeps it or
is told how it does not.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Generator, Tensor, nn

from saliencykit.core.checks import name_of
from saliencykit.core.errors import ContractError, SaliencyKitError
from saliencykit.testing.unchanged import untouched

CLOSE = 1e-5  # how far a row may move with the batch around it
SIZES = ((16, 16), (11, 14))  # of pictures, in pixels; the second is neither square nor even


@final
@dataclass(frozen=True)
class Clause:
    """One thing that a contract promises.

    Attributes:
        contract: What holds of every part of this kind.
        advice: What usually breaks it, and what to write instead.
    """

    contract: str
    advice: str


@final
class BrokenContractError(ContractError, AssertionError):
    """A contract suite found a part that breaks its contract; the message says which clause, what
    came, and of which input.

    Attributes:
        clause: What was promised.
    """

    def __init__(self, clause: Clause, message: str) -> None:
        super().__init__(message)
        self.clause = clause


@final
@dataclass(frozen=True)
class Case:
    """One part on one input.

    Args:
        who: The call that the author wrote, `check_masker(Mine(samples=3))`.
        given: The input by name, for the message.

    Example:
        >>> case = Case("check_masker(Mine())", {"images": torch.zeros(2, 3, 4, 4), "labels": torch.tensor([0, 1])})
        >>> case.require(False, Clause("a mask is in [0, 1]", "divide by the maximum"), expected="at most 1", got="1.5")
        Traceback (most recent call last):
        saliencykit.testing.contracts.case.BrokenContractError: check_masker(Mine()): a contract is broken.
          contract: a mask is in [0, 1]
          expected: at most 1
          got: 1.5
          input: images float32 (2, 3, 4, 4) from 0 to 0; labels [0, 1]
          way out: divide by the maximum
    """

    who: str
    given: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Put the input in words now: a part may change it in place."""
        object.__setattr__(
            self, "given", {name: form_of(value) for name, value in self.given.items()}
        )

    def require(self, holds: bool, clause: Clause, *, expected: str, got: str) -> None:
        """Raise BrokenContractError unless it holds."""
        if not holds:
            raise self._broken(clause, expected, got)

    @contextmanager
    def asking(self, clause: Clause, expected: str) -> Iterator[None]:
        """What the part raises in here breaks `clause`."""
        try:
            yield
        except BrokenContractError:
            raise
        except Exception as error:
            got = str(error) if isinstance(error, ContractError) else f"{name_of(error)}: {error}"
            raise self._broken(
                clause, expected, got if isinstance(error, SaliencyKitError) else f"it raised {got}"
            ) from error

    @contextmanager
    def borrowing(
        self, clause: Clause, model: nn.Module | None = None, **tensors: Tensor
    ) -> Iterator[None]:
        """What is lent in here is given back as it was: the model, the tensors and the global
        random state.
        """
        with self.asking(clause, "everything as it was before"), untouched("it", model, **tensors):
            yield

    def same(
        self, clause: Clause, wanted: Tensor, came: Tensor, tolerance: float, *, how: str
    ) -> None:
        """The answers must agree; `how` says how the second came about, "asked a second time"."""
        if wanted.shape != came.shape:
            raise self._broken(
                clause, f"shape {tuple(wanted.shape)}", f"shape {tuple(came.shape)}, {how}"
            )
        wanted, came = wanted.detach(), came.detach()
        close_to_rounding = (wanted == came) | (wanted.isnan() & came.isnan())
        gap = torch.where(close_to_rounding, 0.0, (wanted - came).abs()).nan_to_num(
            nan=float("inf")
        )
        if not bool((gap <= tolerance).all()):
            at = tuple(int(i) for i in torch.unravel_index(gap.argmax(), gap.shape))
            place = f"at [{', '.join(map(str, at))}]"
            expected = f"{float(wanted[at]):.6g} {place}, to within {tolerance:.2g}"
            raise self._broken(
                clause,
                expected,
                f"{float(came[at]):.6g} there, a difference of {float(gap[at]):.2g}, {how}",
            )

    def rows(
        self, clause: Clause, query: Callable[[Tensor], Tensor], whole: Tensor, tolerance: float
    ) -> None:
        """The answer to some rows, in any order, must be those rows of the answer to all."""
        order = torch.arange(len(whole)).flip(0)
        for some in (order, *(order[i : i + 1] for i in range(min(2, len(order)))), order[:-1]):
            if len(some):
                rows = f"row{'s'[: len(some) > 1]} {', '.join(map(str, some.tolist()))}"
                with self.asking(clause, f"the answer for {rows} alone"):
                    came = query(some)
                self.same(clause, whole[some], came, tolerance, how=f"for {rows} alone")

    def _broken(self, clause: Clause, expected: str, got: str) -> BrokenContractError:
        lines = [
            f"{self.who}: a contract is broken.",
            f"contract: {clause.contract}",
            f"expected: {expected}",
            f"got: {got}",
        ]
        if self.given:
            lines.append(
                "input: " + "; ".join(f"{name} {value}" for name, value in self.given.items())
            )
        return BrokenContractError(clause, "\n  ".join([*lines, f"way out: {clause.advice}"]))


def is_part(
    thing: object,
    base: type,
    kind: Clause,
    own: Clause,
    who: str,
    finals: tuple[str, ...] = ("__call__",),
) -> None:
    """It is derived from the contract, and leaves the methods that check to the library."""
    case = Case(who)
    case.require(
        isinstance(thing, base),
        kind,
        expected=f"an object of a class derived from {base.__name__}",
        got=_which(thing),
    )
    for name in finals:
        mine = getattr(type(thing), name) is getattr(base, name)
        case.require(mine, own, expected=f"{base.__name__}.{name}", got=f"{name_of(thing)}.{name}")


def form_of(value: object) -> str:
    """A value in a few words: what kind of tensor, from where to where."""
    if not isinstance(value, Tensor):
        return str(value)
    if value.ndim == 1 and not value.is_floating_point() and len(value) <= 8:
        return str(value.tolist())
    kind, shape = str(value.dtype).removeprefix("torch."), tuple(value.shape)
    return (
        f"{kind} {shape} from {float(value.min()):.4g} to {float(value.max()):.4g}"
        if value.numel()
        else f"{kind} {shape}"
    )


def seeded(seed: int) -> Generator:
    """A generator of its own."""
    return Generator().manual_seed(seed)


def _which(thing: object) -> str:
    return (
        f"the class {thing.__name__} itself; make one, {thing.__name__}()"
        if isinstance(thing, type)
        else name_of(thing)
    )
