import pytest
import torch

from saliencykit.core.errors import ContractError, InputError
from saliencykit.core.masker import Masker
from saliencykit.maskers.baselines import CenterBox
from saliencykit.testing.contracts.case import (
    BrokenContractError,
    Case,
    Clause,
    form_of,
    is_part,
    seeded,
)

CLAUSE = Clause("it holds", "make it hold")
CASE = Case("check_it()", {"images": torch.tensor([[0.0, 2.0]]), "labels": torch.tensor([1, 0])})


def test_a_message_has_all_that_an_author_needs():
    with pytest.raises(BrokenContractError) as caught:
        CASE.require(False, CLAUSE, expected="this", got="that")
    assert str(caught.value).split("\n") == [
        "check_it(): a contract is broken.",
        "  contract: it holds",
        "  expected: this",
        "  got: that",
        "  input: images float32 (1, 2) from 0 to 2; labels [1, 0]",
        "  fix: make it hold",
    ]
    assert isinstance(caught.value, AssertionError)
    assert isinstance(caught.value, ContractError)
    CASE.require(True, CLAUSE, expected="this", got="that")


def test_the_largest_difference_is_reported():
    wanted = torch.zeros(2, 3)
    came = wanted.clone()
    came[1, 2], came[0, 1] = 0.5, 0.25
    with pytest.raises(
        BrokenContractError,
        match=r"expected: 0 at \[1, 2\], to within 0.1\n"
        r"  got: 0.5 there, a difference of 0.5, then",
    ):
        CASE.same(CLAUSE, wanted, came, 0.1, how="then")
    CASE.same(CLAUSE, wanted, came, 0.5, how="then")


@pytest.mark.parametrize(
    ("one", "other", "fine"),
    [("nan", "nan", True), ("inf", "inf", True), ("nan", 0, False), (0, "inf", False)],
)
def test_nan_and_infinity_equal_only_themselves(one, other, fine):
    one, other = torch.tensor([float(one)]), torch.tensor([float(other)])
    if fine:
        CASE.same(CLAUSE, one, other, 1e-5, how="then")
        return
    with pytest.raises(BrokenContractError):
        CASE.same(CLAUSE, one, other, 1e-5, how="then")


def test_shapes_are_compared():
    with pytest.raises(
        BrokenContractError, match=r"expected: shape \(2,\)\n  got: shape \(3,\), then"
    ):
        CASE.same(CLAUSE, torch.zeros(2), torch.zeros(3), 1.0, how="then")


def test_rows_are_queried_in_other_orders_and_alone():
    whole, queried = torch.arange(4.0), []

    def query(some):
        queried.append(some.tolist())
        return whole[some]

    CASE.rows(CLAUSE, query, whole, 0.0)
    assert queried == [[3, 2, 1, 0], [3], [2], [3, 2, 1]]
    with pytest.raises(BrokenContractError, match=r"got: 3.5 there, .*, for row 3 alone"):
        CASE.rows(CLAUSE, lambda some: whole[some] + (0.5 if len(some) == 1 else 0), whole, 0.1)
    with pytest.raises(
        BrokenContractError,
        match="expected: the result for rows 3, 2, 1, 0 alone\n  got: it raised ValueError: no",
    ):
        CASE.rows(CLAUSE, raising(ValueError("no")), whole, 0.1)


def raising(error):
    def query(*_):
        raise error

    return query


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ContractError("Mine.mask returned nothing"), "got: Mine.mask returned nothing\n"),
        (InputError("too small"), "got: InputError: too small\n"),
        (
            ZeroDivisionError("division by zero"),
            "got: it raised ZeroDivisionError: division by zero\n",
        ),
    ],
)
def test_an_exception_is_reported_with_the_input(error, words):
    with (
        pytest.raises(BrokenContractError, match=words) as caught,
        CASE.expecting(CLAUSE, "an answer"),
    ):
        raise error
    assert caught.value.__cause__ is error
    assert "input: images" in str(caught.value)


def test_broken_contracts_and_interrupts_pass_through():
    other = Clause("another", "way")
    with pytest.raises(BrokenContractError) as caught, CASE.expecting(CLAUSE, "an answer"):
        CASE.require(False, other, expected="a", got="b")
    assert caught.value.clause is other
    with pytest.raises(KeyboardInterrupt), CASE.expecting(CLAUSE, "an answer"):
        raise KeyboardInterrupt


def test_a_changed_tensor_is_reported_by_name():
    lent = torch.zeros(2)
    with (
        pytest.raises(
            BrokenContractError, match=r"got: it changed lent, the random state of torch;"
        ),
        CASE.lending(CLAUSE, lent=lent),
    ):
        lent += torch.rand(2)


def test_a_class_in_place_of_an_object_is_reported():
    with pytest.raises(
        BrokenContractError, match=r"got: the class CenterBox itself; make one, CenterBox\(\)"
    ):
        is_part(CenterBox, Masker, CLAUSE, CLAUSE, "check_masker(CenterBox)")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("text", "text"),
        (torch.tensor([2, 1]), "[2, 1]"),
        (torch.tensor([True, False]), "[True, False]"),
        (torch.arange(9), "int64 (9,) from 0 to 8"),
        (torch.zeros(0, 4), "float32 (0, 4)"),
    ],
)
def test_values_are_described_by_type_and_range(value, words):
    assert form_of(value) == words


def test_seeds():
    assert torch.rand(1, generator=seeded(3)) == torch.rand(1, generator=seeded(3))
