import pytest
import torch

from saliencykit.core import checks
from saliencykit.core.errors import ContractError, InputError
from saliencykit.core.visible_text import first_line

X = torch.zeros(3, 3, 5, 4)


def test_name_of():
    assert checks.name_of(X) == "Tensor"


def test_finite_rows():
    x = X.clone()
    assert checks.finite_rows(x) == []
    x[1, 0, 0, 0], x[2, 1, 1, 1] = float("nan"), float("-inf")
    assert checks.finite_rows(x) == [1, 2]
    assert checks.finite_rows(
        torch.stack([torch.full((2,), float("inf")), torch.full((2,), -float("inf"))])
    ) == [0, 1]


def test_finite_rows_of_huge_but_finite_numbers():
    assert checks.finite_rows(torch.full((2, 4), 3e38)) == []


@pytest.mark.parametrize(
    ("value", "came"),
    [
        ([1, 2], "got list"),
        (torch.zeros(3, 5, 4), r"float32 of shape \(3, 5, 4\)"),
        (torch.zeros(1, 3, 5, 4, dtype=torch.uint8), "uint8"),
        (torch.zeros(0, 3, 5, 4), r"\(0, 3, 5, 4\)"),
        (torch.zeros(1, 3, 0, 4), r"\(1, 3, 0, 4\)"),
    ],
)
def test_images_reports_what_came(value, came):
    with pytest.raises(InputError, match=came):
        checks.images(value, "Somebody")


def test_images_names_the_bad_rows():
    bad = torch.zeros(9, 1, 2, 2)
    bad[[1, 2, 3, 4, 5, 6]] = float("nan")
    with pytest.raises(
        InputError, match=r"Somebody got NaN or infinite pixels in row 1, 2, 3, 4, 5, \.\.\. of 9"
    ):
        checks.images(bad, "Somebody")


def test_images_allows_any_range():
    checks.images(torch.tensor([[[[-7.0, 300.0]]]]), "Somebody")


@pytest.mark.parametrize(
    ("value", "came"),
    [
        (3, "got int"),
        (torch.tensor([0, 1]), r"int64 of shape \(2,\)"),
        (torch.tensor([0.0, 1.0, 2.0]), "float32"),
        (torch.tensor([0, 1, 5]), r"label 5 in row 2 is outside 0\.\.4"),
        (torch.tensor([0, -1, 4]), r"label -1 in row 1 is outside 0\.\.4"),
    ],
)
def test_labels(value, came):
    checks.labels(torch.tensor([0, 4, 2]), 3, 5, "Somebody")
    with pytest.raises(InputError, match=came):
        checks.labels(value, 3, 5, "Somebody")


@pytest.mark.parametrize(
    ("value", "came"),
    [
        (None, "returned NoneType"),
        (torch.zeros(3, 5, 4), r"shape \(3, 5, 4\); a mask has shape \(3, 1, 5, 4\)"),
        (torch.zeros(3, 3, 5, 4), r"a mask has shape \(3, 1, 5, 4\)"),
        (torch.zeros(2, 1, 5, 4), r"a mask has shape"),
        (torch.zeros(3, 1, 2, 2), r"a mask has shape"),
        (torch.zeros(3, 1, 5, 4, dtype=torch.bool), "torch.bool; a mask is float"),
        (torch.full((3, 1, 5, 4), float("nan")), "row 0, 1, 2; a mask is finite"),
        (torch.full((3, 1, 5, 4), 1.5), r"from 1.5 to 1.5; a mask must be in \[0, 1\]"),
        (torch.full((3, 1, 5, 4), -0.25), r"from -0.25 to -0.25"),
    ],
)
def test_mask(value, came):
    checks.mask(torch.rand(3, 1, 5, 4), X, "Somebody")
    with pytest.raises(ContractError, match=came):
        checks.mask(value, X, "Somebody")


def test_mask_of_any_size():
    checks.mask(torch.rand(3, 1, 2, 7), X, "Somebody", any_size=True)
    with pytest.raises(ContractError, match=r"\(3, 1, h, w\)"):
        checks.mask(torch.rand(3, 2, 2, 7), X, "Somebody", any_size=True)
    with pytest.raises(ContractError, match=r"\(3, 1, h, w\)"):
        checks.mask(torch.rand(3, 1, 0, 7), X, "Somebody", any_size=True)


def test_maps():
    for fine in (None, torch.rand(3, 1, 5, 4), torch.rand(3, 1, 1, 2)):
        checks.maps(fine, 3, "Somebody: scores")
    checks.maps(torch.rand(3), 3, "Somebody: error", flat=True)
    for wrong in (
        torch.rand(3),
        torch.rand(3, 3, 5, 4),
        torch.rand(2, 1, 5, 4),
        torch.zeros(3, 1, 5, 4, dtype=torch.int64),
        0.5,
    ):
        with pytest.raises(
            ContractError, match=r"Somebody: scores are .*; expected floats \(3, 1, h, w\), or None"
        ):
            checks.maps(wrong, 3, "Somebody: scores")


def test_per_image():
    checks.per_image(torch.zeros(2), 2, "Somebody")
    checks.per_image(torch.tensor([0.0, float("nan")]), 2, "Somebody", nan=True)
    with pytest.raises(ContractError, match="NaN or infinite value in row 1"):
        checks.per_image(torch.tensor([0.0, float("nan")]), 2, "Somebody")
    for wrong in (torch.zeros(2, 1), torch.zeros(3), torch.zeros(2, dtype=torch.int64), 0.5):
        with pytest.raises(ContractError, match=r"one float per image, shape \(2,\)"):
            checks.per_image(wrong, 2, "Somebody")


def test_the_first_line_of_a_foreign_message_is_short():
    assert first_line(RuntimeError("  mat1 and mat2 differ. \nat 0x7f")) == "mat1 and mat2 differ"
    assert first_line(KeyError()) == "no message"
    assert len(first_line(ValueError("x" * 10_000))) == 300


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("(0, 1]", (1e-9, 1), (0, 1.1, float("nan"), "1", None)),
        ("[0, 1)", (0, 0.9), (-1e-9, 1)),
        ("(0, inf)", (3, 1e9), (0, float("inf"))),
    ],
)
def test_numbers_are_in_an_interval(interval, inside, outside):
    for value in inside:
        checks.numbers("fit", interval, lr=value)
    for value in outside:
        with pytest.raises(InputError, match=r"fit\(lr=.*\) takes a number in "):
            checks.numbers("fit", interval, lr=value)


def test_a_reason_is_our_own_message_or_a_foreign_one_with_the_name_of_its_error():
    assert checks.reason_of(InputError("a.png is\n  damaged.")) == "a.png is damaged."
    assert checks.reason_of(KeyError()) == "KeyError: no message"
