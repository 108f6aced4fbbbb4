"""Contract suites: everything that the library relies on, checked of one part in one line.

    def test_contract():
        check_masker(SuperpixelMasker(segments=16))

Each failure is a BrokenContractError (a ContractError, and an AssertionError for test runners): it
says what the contract is, what was expected, what came, of which input, and the way out.
"""

from collections.abc import Callable, Mapping

from saliencykit.testing.contracts.alternative import check_alternative
from saliencykit.testing.contracts.black_box import check_black_box
from saliencykit.testing.contracts.case import BrokenContractError
from saliencykit.testing.contracts.masker import check_masker
from saliencykit.testing.contracts.metric import check_metric
from saliencykit.testing.contracts.term import check_term

__all__ = [
    "CHECKS",
    "BrokenContractError",
    "check_alternative",
    "check_black_box",
    "check_masker",
    "check_metric",
    "check_term",
]

CHECKS: Mapping[str, Callable[..., None]] = {
    "black_box": check_black_box,
    "alternative": check_alternative,
    "term": check_term,
    "masker": check_masker,
    "metric": check_metric,
}
"""The suite of each kind, by the registry's name for it."""
