"""CheckResult: what the results of all sanity checks have in common."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final


@dataclass(frozen=True, kw_only=True)
class CheckResult(ABC):
    """The result of a sanity check.

    Attributes:
        missing: Why masks are missing, and of how many images.
        passed: See `rule`; None if it is unclear.
    """

    missing: Mapping[str, int]
    passed: bool | None

    name: ClassVar[str]
    rule: ClassVar[str]

    @property
    @abstractmethod
    def summary(self) -> str:
        """The estimates in a line of text."""

    @final
    @property
    def line(self) -> str:
        """Verdict and estimates in a line of text."""
        verdict = {True: "pass", False: "FAIL", None: "unclear"}[self.passed]
        lost = f"; {sum(self.missing.values())} masks missing" if self.missing else ""
        return f"{self.name}: {verdict}. {self.summary}{lost}"
