"""The verdict of a trial: its rules, against a slow table of them."""

import itertools

import pytest
import torch

from saliencykit.core.verdict import Verdict, verdicts

GRID = [0.0, 0.04, 0.09, 0.1, 0.2, 0.45, 0.5, 0.77, 0.82, 0.9, 1.0]


def slow_verdict(whole, kept, dropped, replaced, chance):
    """The rules of the docstring, one by one, from the last to the first."""
    kept_half = kept >= whole / 2 and abs(kept) >= (whole + replaced) / 2
    removed_half = whole - dropped >= whole / 2
    verdict = {
        (True, True): "both",
        (True, False): "sufficient",
        (False, True): "necessary",
        (False, False): "neither",
    }[kept_half, removed_half]
    if all(each >= 0.9 * whole for each in (kept, replaced)):
        verdict = "saturated"
    if whole < 0.1 or whole < chance:
        verdict = "undecided"
    return verdict


@pytest.mark.parametrize("chance", [0.0, 0.001, 0.25, 0.5])
def test_the_rules_agree_with_their_slow_version(chance):
    for numbers in itertools.product(GRID, repeat=4):
        assert Verdict.of(*numbers, chance=chance) == slow_verdict(*numbers, chance), numbers


def test_without_the_replaced_image_it_counts_as_zero():
    for numbers in itertools.product(GRID, repeat=3):
        assert Verdict.of(*numbers) == Verdict.of(*numbers, 0.0)


def test_an_empty_mask_is_never_called_enough():
    for whole, replaced in itertools.product(GRID, repeat=2):
        verdict = Verdict.of(whole, replaced, whole, replaced)
        assert verdict not in ("both", "sufficient", "necessary") or whole == 0


def test_a_whole_mask_of_a_decided_image_decides():
    for whole in (0.1, 0.5, 1.0):
        assert Verdict.of(whole, whole, 0.01, 0.01) == "both"


def test_a_batch_has_one_verdict_per_image():
    g = torch.Generator().manual_seed(0)
    logits, kept, dropped, replaced = 4 * torch.randn(4, 50, 6, generator=g)
    labels = torch.randint(6, (50,), generator=g)
    p = [z.softmax(1)[range(50), labels].tolist() for z in (logits, kept, dropped, replaced)]
    expected = [slow_verdict(*row, 1 / 6) for row in zip(*p, strict=True)]
    assert list(verdicts(labels, logits, kept, dropped, replaced)) == expected
    assert len(set(expected)) >= 4


def test_every_verdict_has_words_and_is_plain_text_in_json():
    import json

    assert len({verdict.words for verdict in Verdict}) == len(Verdict)
    assert json.dumps(Verdict.BOTH) == '"both"'


@pytest.mark.parametrize("scale", [1.0, -3.0, 1e4])
def test_a_score_has_the_verdict_of_its_share_of_the_way_from_replaced_to_whole(scale):
    for kept, dropped in itertools.product([-0.5, 0.0, 0.4, 0.6, 1.0, 1.5], repeat=2):
        rows = [torch.tensor([[0.0, 7.0 + scale * v]]) for v in (1.0, kept, dropped, 0.0)]
        got = verdicts(torch.tensor([1]), *rows, output="score")
        assert got == (slow_verdict(1.0, kept, dropped, 0.0, 0.0),)


@pytest.mark.parametrize("scale", [46.0, -0.3, 1e6])
def test_a_score_that_hardly_changes_was_not_tested(scale):
    for kept, dropped in itertools.product([0.995, 1.0, 1.005], repeat=2):
        rows = [torch.tensor([[scale * v]]) for v in (1.0, kept, dropped, 1.006)]
        assert verdicts(torch.tensor([0]), *rows, output="score") == ("saturated",)
    rows = [torch.tensor([[scale * v]]) for v in (1.0, 1.0, 0.95, 0.95)]
    assert verdicts(torch.tensor([0]), *rows, output="score") == ("both",)


@pytest.mark.parametrize("verdict", Verdict)
def test_the_words_of_a_verdict_are_true_for_scores_too(verdict):
    assert "class" not in verdict.words
    assert "prob" not in verdict.words


def test_scores_that_do_not_depend_on_the_image_are_saturated_and_unknown_ones_undecided():
    same = torch.full((1, 2), 3.0)
    label = torch.tensor([0])
    assert verdicts(label, same, same + 1, same - 1, same, output="score") == ("saturated",)
    assert verdicts(label, same, same + 1, same - 1, output="score") == ("undecided",)


def test_independent_labels_have_no_chance_level():
    z, label = torch.full((1, 2), -1.0), torch.tensor([0])
    weak = torch.full((1, 2), -9.0)
    assert verdicts(label, z, z, weak, weak, output="sigmoid") == ("both",)
    assert verdicts(label, z.log_softmax(1) - 2, z, weak, weak, output="sigmoid") == ("undecided",)
