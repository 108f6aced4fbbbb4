import torch

from saliencykit.video.label_tracker import LabelTracker


def logits(*tops, strength=3.0):
    rows = torch.zeros(len(tops), 4)
    rows[torch.arange(len(tops)), torch.tensor(tops)] = strength
    return rows


def test_a_given_class_is_given_to_all():
    assert LabelTracker(2)(logits(0, 1, 3), [True, False, True]).tolist() == [2, 2, 2]


def test_the_first_frames_class_is_kept_over_batches_and_cuts():
    queried = LabelTracker("first")
    assert queried(logits(1, 0), [True, False]).tolist() == [1, 1]
    assert queried(logits(3, 3), [True, False]).tolist() == [1, 1]


def test_a_class_that_leads_for_two_frames_changes_nothing():
    queried = LabelTracker("follow")
    assert queried(logits(0, 0, 1, 1, 0, 0), [True] + [False] * 5).tolist() == [0] * 6


def test_a_class_that_goes_on_leading_is_followed_within_five_frames():
    labels = LabelTracker("follow")(logits(0, 0, *[1] * 8), [True] + [False] * 9).tolist()
    assert labels[:3] == [0, 0, 0]
    assert labels[-3:] == [1, 1, 1]
    assert labels.index(1) <= 7
    assert labels == sorted(labels)


def test_a_narrow_lead_is_not_enough():
    even = torch.tensor([[1.0, 1.1, 0, 0]])
    queried = LabelTracker("follow")
    assert queried(logits(0), [True]).tolist() == [0]
    assert set(queried(even.repeat(50, 1), [False] * 50).tolist()) == {0}


def test_a_cut_begins_anew():
    assert LabelTracker("follow")(logits(0, 0, 2), [True, False, True]).tolist() == [0, 0, 2]


def test_batches_do_not_matter():
    rows, cuts = (
        torch.randn(12, 4, generator=torch.Generator().manual_seed(0)) * 3,
        [True, *[False] * 6, True, *[False] * 4],
    )
    whole = LabelTracker("follow")(rows, cuts).tolist()
    queried = LabelTracker("follow")
    parts = [queried(rows[i : i + 5], cuts[i : i + 5]) for i in range(0, 12, 5)]
    assert torch.cat(parts).tolist() == whole
