import pytest
import torch

from saliencykit.core.errors import ContractError, InputError
from saliencykit.core.metric import Metric, Sample
from saliencykit.testing.black_boxes import PlantedEvidence

BOX = PlantedEvidence()
X, Y = BOX.examples(3, generator=torch.Generator().manual_seed(0))
MASK = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))


class Scorer(Metric):
    higher_is_better = True

    def __init__(self, answer):
        self.answer = answer

    def score(self, black_box, sample, mask, *, explain, generator):
        return self.answer(black_box, sample, mask, explain)


def query(metric, mask=MASK, labels=Y, images=X):
    return metric(
        BOX,
        Sample(images, labels),
        mask,
        explain=lambda images, labels: MASK[:1],
        generator=torch.Generator(),
    )


def test_a_single_score_is_named_after_the_class():
    scores = query(Scorer(lambda b, s, m, e: m.mean((1, 2, 3))))
    assert list(scores) == ["Scorer"]
    assert torch.equal(scores["Scorer"], MASK.mean((1, 2, 3)))


def test_several_scores_nan_and_explain():
    scores = query(
        Scorer(
            lambda b, s, m, e: {
                "a": torch.full((3,), float("nan")),
                "b": e(s.images, s.labels).sum().expand(3),
            }
        )
    )
    assert scores["a"].isnan().all()
    assert scores["b"].tolist() == [MASK[:1].sum().item()] * 3


def test_no_gradient_is_kept():
    assert not query(
        Scorer(lambda b, s, m, e: m.mean((1, 2, 3))), MASK.clone().requires_grad_(True)
    )["Scorer"].requires_grad


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            torch.zeros(2),
            r"Scorer.score\['Scorer'\] returned torch.float32 of shape \(2,\); expected one float "
            r"per image, shape \(3,\)",
        ),
        ({"x": torch.zeros(3), "y": 0.5}, r"score\['y'\] returned float"),
        ({}, "no values"),
        (None, "NoneType"),
    ],
)
def test_a_broken_score_is_reported(answer, words):
    with pytest.raises(ContractError, match=words):
        query(Scorer(lambda *_: answer))


def test_inputs_are_checked():
    fine = Scorer(lambda b, s, m, e: m.mean((1, 2, 3)))
    with pytest.raises(ContractError, match="mask"):
        query(fine, MASK[:, :, :4])
    with pytest.raises(InputError, match="label 9 in row 2"):
        query(fine, labels=torch.tensor([0, 1, 9]))
    with pytest.raises(InputError, match="takes images"):
        query(fine, images=X[0])


def test_a_sample_needs_boxes_for_every_image():
    assert Sample(X, Y).boxes is None
    Sample(X, Y, (torch.zeros(0, 4), torch.zeros(1, 4), torch.zeros(2, 4)))
    with pytest.raises(InputError, match="a Sample of 3 images takes as many box tensors; got 1"):
        Sample(X, Y, (torch.zeros(1, 4),))


def test_a_sample_needs_a_name_for_every_image():
    assert Sample(X, Y).names is None
    assert Sample(X, Y, names=("a", "b", "a")).names == ("a", "b", "a")
    with pytest.raises(InputError, match="a Sample of 3 images takes as many names; got 1"):
        Sample(X, Y, names=("a",))


def test_for_data_returns_the_metric_itself_by_default():
    score = Scorer(lambda b, s, m, e: m.mean((1, 2, 3)))
    assert score.for_data(Sample(X, Y)) is score
