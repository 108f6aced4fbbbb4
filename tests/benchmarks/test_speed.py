"""The speed benchmark's statistics and parts; its timings are no test."""

import pytest

from benchmarks.speed import Contender, cost_table, interval


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (range(1, 16), "8.00 [4.00, 12.00]"),
        (range(1, 7), "3.50 [1.00, 6.00]"),
        ([3.0, 1.0, 2.0], "2.00 [1.00, 3.00]"),
    ],
)
def test_the_interval_is_the_sign_tests(values, expected):
    """15 values: ranks 4 and 12 hold the median with 96.5 %; 6: the range, with 96.9 %; 3: the
    range, with what it has.
    """
    assert interval([float(v) for v in values]) == expected


def test_ratios_are_taken_within_a_round():
    contenders = [
        Contender(name, ours, 1, lambda: None)
        for name, ours in (("floor", None), ("mine", None), ("theirs", "mine"))
    ]
    times = {"floor": [1.0, 10.0, 100.0], "mine": [1.0, 10.0, 100.0], "theirs": [2.0, 20.0, 200.0]}
    assert "| theirs | 1 | 20000.0 | 2.00 [2.00, 2.00] | 2.00 [2.00, 2.00] |" in cost_table(
        contenders, times
    )
