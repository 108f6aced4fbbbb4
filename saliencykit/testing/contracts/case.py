"""Clause and Case: one promise of a contract, and one part on one input that must keep it."""

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
SIZES = ((16, 16), (11, 14))  # of images, in pixels; the second is neither square nor even


@final
@dataclass(frozen=True)
class Clause:
    """One promise of a contract.

    Attributes:
        contract: What holds for every part of this kind.
        advice: What usually breaks it, and what to write instead.
    """

    contract: str
    advice: str


def derived_from(base: str, verb: str) -> Clause:
    """The promise to be an object of a class derived from a contract."""
    return Clause(
        f"it is derived from saliencykit.{base}",
        f"write class Mine(saliencykit.{base}) and implement {verb}",
    )


def borrows(what: str, advice: str) -> Clause:
    """The promise to leave everything unchanged that a part gets."""
    return Clause(
        f"what is borrowed comes back unchanged: {what}, and the global random state", advice
    )


@final
class BrokenContractError(ContractError, AssertionError):
    """A part breaks its contract; the message says which clause, what came, and for which input.

    Attributes:
        clause: The promise.
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
        >>> case = Case("check_masker(Mine())", {"labels": torch.tensor([0, 1])})
        >>> clause = Clause("a mask is in [0, 1]", "divide by the maximum")
        >>> try:
        ...     case.require(False, clause, "at most 1", "1.5")
        ... except BrokenContractError as error:
        ...     print(error)
        check_masker(Mine()): a contract is broken.
          contract: a mask is in [0, 1]
          expected: at most 1
          got: 1.5
          input: labels [0, 1]
          fix: divide by the maximum
    """

    who: str
    given: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Describe the input now: a part may change it in place."""
        described = {name: form_of(value) for name, value in self.given.items()}
        object.__setattr__(self, "given", described)

    def require(self, holds: bool, clause: Clause, expected: str, got: str) -> None:
        """Raise BrokenContractError unless it holds."""
        if not holds:
            raise self._broken(clause, expected, got)

    def require_a(self, base: type, thing: object, clause: Clause) -> None:
        """Raise BrokenContractError unless a thing is an instance of a class."""
        self.require(isinstance(thing, base), clause, f"a {base.__name__}", name_of(thing))

    @contextmanager
    def expecting(self, clause: Clause, expected: str) -> Iterator[None]:
        """Whatever the part raises in here breaks `clause`."""
        try:
            yield
        except BrokenContractError:
            raise
        except Exception as error:
            got = str(error) if isinstance(error, ContractError) else f"{name_of(error)}: {error}"
            raised = "" if isinstance(error, SaliencyKitError) else "it raised "
            raise self._broken(clause, expected, raised + got) from error

    @contextmanager
    def lending(
        self, clause: Clause, model: nn.Module | None = None, **tensors: Tensor
    ) -> Iterator[None]:
        """The model, the tensors and the global random state must be unchanged afterwards."""
        with (
            self.expecting(clause, "everything as it was before"),
            untouched("it", model, **tensors),
        ):
            yield

    def same(
        self, clause: Clause, wanted: Tensor, came: Tensor, tolerance: float, *, how: str
    ) -> None:
        """Two results must agree; `how` says where the second comes from: "a second time"."""
        shapes = f"shape {tuple(wanted.shape)}", f"shape {tuple(came.shape)}, {how}"
        self.require(wanted.shape == came.shape, clause, *shapes)
        wanted, came = wanted.detach(), came.detach()
        equal = (wanted == came) | (wanted.isnan() & came.isnan())
        gap = torch.where(equal, 0.0, (wanted - came).abs()).nan_to_num(nan=float("inf"))
        if bool((gap <= tolerance).all()):
            return
        at = tuple(int(i) for i in torch.unravel_index(gap.argmax(), gap.shape))
        raise self._broken(
            clause,
            f"{float(wanted[at]):.6g} at {list(at)}, to within {tolerance:.2g}",
            f"{float(came[at]):.6g} there, a difference of {float(gap[at]):.2g}, {how}",
        )

    def rows(
        self, clause: Clause, query: Callable[[Tensor], Tensor], whole: Tensor, tolerance: float
    ) -> None:
        """The result for some rows, in any order, must be those rows of the result for all."""
        order = torch.arange(len(whole), device="cpu").flip(0)
        for some in (order, *(order[i : i + 1] for i in range(min(2, len(order)))), order[:-1]):
            if len(some):
                rows = f"row{'s'[: len(some) > 1]} {', '.join(map(str, some.tolist()))}"
                with self.expecting(clause, f"the result for {rows} alone"):
                    came = query(some)
                self.same(clause, whole[some], came, tolerance, how=f"for {rows} alone")

    def _broken(self, clause: Clause, expected: str, got: str) -> BrokenContractError:
        lines = {"contract": clause.contract, "expected": expected, "got": got}
        if self.given:
            lines["input"] = "; ".join(f"{name} {value}" for name, value in self.given.items())
        lines["fix"] = clause.advice
        text = "".join(f"\n  {name}: {line}" for name, line in lines.items())
        return BrokenContractError(clause, f"{self.who}: a contract is broken.{text}")


def is_part(
    thing: object,
    base: type,
    kind: Clause,
    own: Clause,
    who: str,
    finals: tuple[str, ...] = ("__call__",),
) -> None:
    """It is derived from the contract and does not override the methods that check."""
    expected, got = f"an object of a class derived from {base.__name__}", name_of(thing)
    if isinstance(thing, type):
        got = f"the class {thing.__name__} itself; make one, {thing.__name__}()"
    Case(who).require(isinstance(thing, base), kind, expected, got)
    for name in finals:
        mine = getattr(type(thing), name) is getattr(base, name)
        Case(who).require(mine, own, f"{base.__name__}.{name}", f"{name_of(thing)}.{name}")


def form_of(value: object) -> str:
    """A value in a few words: the kind of tensor and its range."""
    if not isinstance(value, Tensor):
        return str(value)
    if value.ndim == 1 and not value.is_floating_point() and len(value) <= 8:
        return str(value.tolist())
    form = f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if not value.numel():
        return form
    return f"{form} from {float(value.min()):.4g} to {float(value.max()):.4g}"


def seeded(seed: int) -> Generator:
    """A new generator."""
    return Generator().manual_seed(seed)
