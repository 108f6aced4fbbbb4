"""For tests, ours and those of plugin authors: contract suites, boxes whose right answer is known,
hypothesis strategies.

    from saliencykit.testing import check_masker

`strategies` needs hypothesis (`pip install 'saliencykit[testing]'`), the rest nothing more than the
package.
"""

from saliencykit.testing.contracts import (
    BrokenContractError,
    check_alternative,
    check_black_box,
    check_masker,
    check_metric,
    check_term,
)

__all__ = [
    "BrokenContractError",
    "check_alternative",
    "check_black_box",
    "check_masker",
    "check_metric",
    "check_term",
]
