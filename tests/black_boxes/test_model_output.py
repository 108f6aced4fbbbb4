"""Whatever a model returns, as logits."""

import warnings
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch

from saliencykit.black_boxes.model_output import read_logits, warn_if_probabilities
from saliencykit.core.errors import ContractError, InputError

LOGITS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
Outputs = namedtuple("Outputs", ["logits", "aux"])


@pytest.mark.parametrize(
    "answer",
    [
        LOGITS,
        (LOGITS, torch.zeros(2, 7)),
        [LOGITS, None],
        ((LOGITS,), torch.zeros(1)),
        {"logits": LOGITS, "hidden": torch.zeros(2, 9)},
        {"out": LOGITS, "aux": torch.zeros(2, 3)},
        {"anything": LOGITS, "words": "none"},
        SimpleNamespace(logits=LOGITS),
        Outputs(LOGITS, torch.zeros(2, 3)),
        LOGITS[:, :, None, None],
    ],
)
def test_every_form_is_read(answer: object) -> None:
    assert torch.equal(read_logits(answer, 2, "Net"), LOGITS)


@pytest.mark.parametrize("shape", [(2,), (2, 1), (2, 1, 1, 1)])
@pytest.mark.parametrize("probabilities", [False, True])
def test_one_column_is_a_sigmoids_no_and_yes(shape: tuple[int, ...], probabilities: bool) -> None:
    z = torch.tensor([2.0, -1.0])
    column = (z.sigmoid() if probabilities else z).reshape(shape)
    two = read_logits(column, 2, "Net", "softmax", probabilities)
    assert torch.allclose(two, torch.stack([-z / 2, z / 2], 1), atol=1e-6)
    own = read_logits(column, 2, "Net", "sigmoid", probabilities)
    assert torch.allclose(own, torch.stack([-z, z], 1), atol=1e-6)
    assert torch.equal(
        read_logits(column, 2, "Net", "score", probabilities)[:, 0], column.reshape(2)
    )


def test_probabilities_of_labels_become_finite_log_odds() -> None:
    p = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    for values in (p, p.half()):
        got = read_logits(values, 2, "Net", "sigmoid", probabilities=True)
        assert torch.isfinite(got).all()
        assert torch.allclose(got.sigmoid().float(), p, atol=1e-3)


def test_a_squeezed_single_row() -> None:
    assert read_logits(LOGITS[0], 1, "Net").shape == (1, 3)
    assert read_logits(torch.tensor(0.5), 1, "Net").shape == (1, 2)


def test_probabilities_become_finite_logarithms() -> None:
    p = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    got = read_logits(p, 2, "Net", probabilities=True)
    assert torch.isfinite(got).all()
    assert torch.allclose(got.softmax(1), p)
    assert torch.isfinite(read_logits(p.half(), 2, "Net", probabilities=True)).all()


@pytest.mark.parametrize(
    ("answer", "probabilities", "error", "words"),
    [
        (LOGITS, True, InputError, "from -2 to 3"),
        ("cat", False, InputError, "returned str"),
        ({"a": LOGITS, "b": LOGITS}, False, InputError, "with .'a', 'b'."),
        (torch.zeros(2, 3, 5, 5), False, ContractError, r"\(2, 3, 5, 5\)"),
        (torch.zeros(1, 3), False, ContractError, r"returns \(2, K\)"),
        (torch.zeros(2, 0), False, ContractError, r"\(2, 0\)"),
        (torch.zeros(2, 3).long(), False, ContractError, "int64"),
    ],
)
def test_what_cannot_be_read_says_what_came(
    answer: object, probabilities: bool, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        read_logits(answer, 2, "Net", probabilities=probabilities)


@pytest.mark.parametrize(
    ("logits", "warns"),
    [(LOGITS.softmax(1), True), (LOGITS, False), (torch.ones(2, 1), False)],
)
def test_rows_that_sum_to_one_are_warned_about(logits: torch.Tensor, warns: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_if_probabilities(logits, "Net", "probabilities=True")
    assert ["look like probabilities" in str(each.message) for each in caught] == [True] * warns
