import pytest
import torch
from PIL import Image

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import ContractError, InputError
from saliencykit.testing.black_boxes import Broken, Counting, PlantedEvidence, QueryOnly

X = torch.rand(5, 3, 8, 9, generator=torch.Generator().manual_seed(0))


class Answer(BlackBox):
    """Answers whatever it is given."""

    num_classes, differentiable = 2, True

    def __init__(self, answer):
        self.answer = answer

    def logits(self, images):
        return self.answer(images)


def test_a_class_without_the_verb_cannot_be_instantiated():
    with pytest.raises(TypeError, match="logits"):
        BlackBox()


def test_defaults_and_logits():
    black_box = Answer(lambda x: x.mean((2, 3))[:, :2])
    assert (
        black_box.max_batch_size,
        black_box.device,
        black_box.class_names,
        black_box.baseline_color,
    ) == (
        None,
        torch.device("cpu"),
        None,
        None,
    )
    assert black_box.optimized_for(X) is black_box
    assert black_box.without_preprocessing() is black_box
    assert torch.equal(black_box(X), X.mean((2, 3))[:, :2])


@pytest.mark.parametrize(
    ("most", "parts"), [(None, [5]), (1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (7, [5])]
)
def test_large_batches_are_split(most, parts):
    whole = PlantedEvidence()(X)
    counted = Counting(PlantedEvidence(max_batch_size=most))
    assert torch.allclose(counted(X), whole, atol=1e-6)
    assert counted.batch_sizes == parts


def test_splitting_keeps_the_gradient():
    x = X.clone().requires_grad_(True)
    (whole,) = torch.autograd.grad(PlantedEvidence()(x).sum(), x)
    (split,) = torch.autograd.grad(PlantedEvidence(max_batch_size=2)(x).sum(), x)
    assert torch.allclose(whole, split, atol=1e-6)


def test_a_query_only_box_runs_under_no_grad():
    modes = []
    black_box = QueryOnly(
        Answer(lambda x: (modes.append(torch.is_grad_enabled()), x.mean((2, 3))[:, :2])[1])
    )
    with torch.enable_grad():
        assert not black_box(X.clone().requires_grad_(True)).requires_grad
    assert modes == [False]


def test_a_callers_no_grad_is_kept():
    with torch.no_grad():
        assert not PlantedEvidence()(X.clone().requires_grad_(True)).requires_grad


def test_malformed_images_are_refused_before_the_query():
    black_box = Counting(PlantedEvidence())
    bad = X.clone()
    bad[3, 0, 0, 0] = float("nan")
    for wrong, words in [
        (X[0], r"\(3, 8, 9\)"),
        (bad, "pixels in row 3 of 5"),
        (X.byte(), "uint8"),
        ("cat", "got str"),
    ]:
        with pytest.raises(InputError, match=f"Counting .*{words}"):
            black_box(wrong)
    assert black_box.batch_sizes == []


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        (
            "nan",
            ContractError,
            r"Broken.logits returned NaN or infinite logits for row 4; check the model on that "
            r"image",
        ),
        ("infinite", ContractError, "row 4"),
        ("shape", ContractError, r"returned shape \(5, 5\); expected logits of shape \(5, 4\)"),
        ("rows", ContractError, r"returned shape \(4, 4\); expected logits of shape \(5, 4\)"),
        ("integer", ContractError, "returned torch.int64; logits are float"),
        ("list", ContractError, r"returned list; expected logits of shape \(5, 4\)"),
        (
            "raises",
            InputError,
            r"Broken.logits raised RuntimeError on images of shape \(5, 3, 8, 9\), torch.float32: "
            r"this model",
        ),
    ],
)
def test_broken_logits_are_reported_with_the_class_name(how, error, words):
    with pytest.raises(error, match=words):
        Broken(how=how)(X)


def test_the_row_is_counted_over_the_whole_batch_when_it_was_split():
    def third_is_bad(x):
        return torch.where(x == X[3:4], float("nan"), x).mean((2, 3))[:, :2]

    black_box = Answer(third_is_bad)
    black_box.max_batch_size = 2
    with pytest.raises(ContractError, match="for row 3;"):
        black_box(X)


def test_the_models_own_error_is_the_cause():
    with pytest.raises(InputError) as caught:
        Broken(how="raises")(X)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_an_error_without_a_message():
    def silent(x):
        raise KeyError

    with pytest.raises(InputError, match=r"raised KeyError .*: no message"):
        Answer(silent)(X)


def test_errors_of_the_library_pass_unchanged():
    def ours(x):
        raise InputError("exactly this")

    with pytest.raises(InputError, match=r"^exactly this$"):
        Answer(ours)(X)


def test_prepare_says_what_to_do_instead():
    with pytest.raises(
        InputError, match=r"Answer does not say how to prepare an image; give .* raw tensor"
    ):
        Answer(None).prepare(Image.new("RGB", (4, 4)))
