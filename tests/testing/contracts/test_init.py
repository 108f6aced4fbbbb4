from importlib import import_module
from pathlib import Path

import pytest

import saliencykit.testing
from saliencykit.registry.manager import KINDS
from saliencykit.testing import BrokenContractError
from saliencykit.testing.contracts.case import Clause


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_of_another_kind_is_refused(kind):
    with pytest.raises(BrokenContractError, match=rf"check_{kind}\(3\): a contract is broken"):
        getattr(saliencykit.testing, f"check_{kind}")(3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_page_lists_every_clause(kind):
    page = (
        (Path(__file__).parents[3] / "docs" / "reference" / "testing.md")
        .read_text()
        .replace("`__call__`", "__call__")
    )
    suite = import_module(f"saliencykit.testing.contracts.{kind}")
    clauses = [clause for clause in vars(suite).values() if isinstance(clause, Clause)]
    assert clauses
    assert [c for c in clauses if f"| {c.contract} | {c.advice} |" not in page] == []
