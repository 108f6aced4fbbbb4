"""Whatever a model returns, as logits."""

import re
import warnings
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch

from saliencykit.black_boxes.model_output import read_logits, warn_of_misreading
from saliencykit.core.errors import ContractError, InputError
from saliencykit.core.output import Output

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


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ({"findings": LOGITS, "hidden": torch.zeros(3, 9)}, 'answer["findings"]'),
        ({3: LOGITS, "age": torch.zeros(2)}, "answer[3]"),
        (
            {"crop": torch.zeros(2, 3, 8, 8), "head": {"a b": (None, LOGITS)}},
            'answer["head"]["a b"][1]',
        ),
        (SimpleNamespace(risk=LOGITS, x=torch.zeros(9)), "answer.risk"),
        (namedtuple("Pair", ["info", "risk"])({}, LOGITS), "answer.risk"),
    ],
)
def test_an_answer_without_logits_names_the_target_that_reads_it(answer: object, line: str) -> None:
    with pytest.raises((InputError, ContractError)) as caught:
        read_logits(answer, 2, "Net")
    assert f"target=lambda answer: {line}" in str(caught.value)
    assert torch.equal(eval(line, {"answer": answer}), LOGITS)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((torch.tensor(0.3), LOGITS[:1]), r"target=lambda answer: answer\[1\]"),  # a loss in front
        (LOGITS[:1].topk(2, dim=1), "scores of all classes"),
        (LOGITS[:1].sort(1, descending=True), "scores of all classes"),
        (tuple(LOGITS[:1].topk(2, dim=1)), "target="),
        (LOGITS[:1].to_sparse(), "to_dense"),
        (torch.zeros(1, 3, 5, 5), "SegmentationClass"),  # a tensor has an attribute `indices` too
    ],
)
def test_a_loss_and_chosen_classes_are_not_read_as_logits(answer: object, words: str) -> None:
    with pytest.raises((InputError, ContractError), match=words):
        read_logits(answer, 1, "Net")


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


P, Q = LOGITS.softmax(1), LOGITS.sigmoid()


@pytest.mark.parametrize(
    ("values", "output", "probabilities", "sigmoid", "words"),
    [
        (P, "softmax", False, False, "look like probabilities.* write probabilities=True"),
        (P, "sigmoid", False, False, "look like probabilities"),
        (Q, "softmax", True, False, "sum to 1.47 to 1.72, .* write output='sigmoid'"),
        (Q, "softmax", False, True, "Write output='sigmoid', probabilities=True"),
        (Q, "sigmoid", False, True, "probabilities=True"),
        (Q[:, :1], "softmax", False, True, "Write probabilities=True"),
        (P, "softmax", True, False, None),
        (Q, "sigmoid", True, True, None),
        (Q[:, :1], "softmax", True, True, None),
        (LOGITS, "softmax", False, False, None),
        (LOGITS[:, :1], "softmax", False, False, None),
        (LOGITS, "sigmoid", False, False, None),
        (P, "score", False, False, None),
        (P[:, :1], "score", False, True, None),
    ],
)
def test_an_answer_that_looks_like_another_one_is_warned_about(
    values: torch.Tensor, output: Output, probabilities: bool, sigmoid: bool, words: str | None
) -> None:
    logits = read_logits(values, 2, "Net", output, probabilities)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_misreading(logits, "Net", output, probabilities, made_probabilities=lambda: sigmoid)
    assert len(caught) == (words is not None)
    if words is not None:
        assert re.search(words, str(caught[0].message))
