"""What the tables of broken parts share: every clause of a suite is broken by a part of its table,
and the message says how.
"""

from collections.abc import Callable
from types import ModuleType

import pytest

from saliencykit.core.errors import ContractError
from saliencykit.testing.contracts.case import BrokenContractError, Clause

Row = tuple[object, Clause, str]


@pytest.fixture
def breaks() -> Callable[..., None]:
    """A part breaks a clause; the message has the clause, the words and the fix."""

    def breaks(
        check: Callable[..., None], part: object, clause: Clause, words: str, **options: object
    ) -> None:
        with pytest.raises(BrokenContractError) as caught:
            check(part, **options)
        message = str(caught.value)
        assert caught.value.clause is clause, message
        assert isinstance(caught.value, ContractError)
        assert message.startswith(f"{check.__name__}({part!r}): a contract is broken.\n")
        lines = dict(line.split(": ", 1) for line in message.split("\n  ")[1:])
        assert [
            name for name in ("contract", "expected", "got", "fix") if not lines.get(name)
        ] == []
        assert lines["contract"] == clause.contract
        assert words in lines["got"], message

    return breaks


@pytest.fixture
def covers() -> Callable[[ModuleType, list[Row]], None]:
    """No clause of the suite without a broken part."""

    def covers(suite: ModuleType, table: list[Row]) -> None:
        promised = {
            clause.contract for clause in vars(suite).values() if isinstance(clause, Clause)
        }
        assert promised == {clause.contract for _, clause, _ in table}

    return covers


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process of one thread: beside others the model is queried as a private copy."""
    monkeypatch.setattr("threading.active_count", lambda: 1)
