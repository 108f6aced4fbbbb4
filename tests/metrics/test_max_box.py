import numpy as np
import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.core.metric import Sample
from saliencykit.metrics.max_box import MaxBoxAccV2, max_box_accuracy
from tests.metrics.test_localization import TRUTH, overlap, sample_and_masks, score
from tests.metrics.test_thresholding import around, slow_parts


def test_it_equals_a_slow_reference():
    metric = MaxBoxAccV2()
    for seed in range(3):
        sample, mask = sample_and_masks(seed)
        mask = (mask * 6).round() / 6  # plateaus: several thresholds cut the same pixels
        got = score(metric, sample, mask)
        assert list(got) == [f"overlap@{t:g}" for t in metric.thresholds]
        for i, truth in enumerate(TRUTH):
            one = mask[i, 0].numpy()
            for threshold in metric.thresholds:
                value = got[f"overlap@{threshold:g}"][i].item()
                if not len(truth):
                    assert np.isnan(value)
                    continue
                parts = slow_parts(
                    one >= one.min() + np.float32(threshold) * (one.max() - one.min())
                )
                wanted = max(
                    overlap(around(part, one.shape), other)
                    for part in parts
                    for other in truth.tolist()
                )
                assert value == pytest.approx(wanted, abs=1e-6)


def slow_accuracy(overlaps, least):
    """overlaps: images x thresholds."""
    best = []
    for delta in least:
        best.append(
            max(np.mean([row[t] >= delta for row in overlaps]) for t in range(overlaps.shape[1]))
        )
    return [*best, np.mean(best)]


def test_the_accuracy_of_a_data_set_is_that_of_the_best_threshold():
    overlaps = np.random.default_rng(0).random((40, 5)).round(2)
    rows = [
        {f"max-box-acc-v2/overlap@{t / 10:g}": v for t, v in enumerate(row)} | {"other@0.1": 5.0}
        for row in overlaps
    ]
    empty = dict.fromkeys(rows[0], None) | {"max-box-acc-v2/overlap@0.1": float("nan")}
    got = max_box_accuracy([*rows, {k: v for k, v in empty.items() if "other" not in k}])
    assert list(got) == ["0.3", "0.5", "0.7", "mean"]
    assert list(got.values()) == pytest.approx(slow_accuracy(overlaps, (0.3, 0.5, 0.7)))
    assert got["0.3"] >= got["0.5"] >= got["0.7"]
    with pytest.raises(InputError, match="max_box_accuracy"):
        max_box_accuracy([{"a": 1.0}])


def test_an_exact_box_scores_1_and_without_boxes_scores_are_nan():
    mask = torch.zeros(4, 1, 16, 16)
    mask[:, :, 3:10, 2:9] = 0.8
    mask[:, :, 15, 15] = 1.0  # a separate speck: another box, which does not matter
    sample, _ = sample_and_masks()
    got = score(MaxBoxAccV2(thresholds=(0.5, 0.9)), sample, mask)
    assert got["overlap@0.5"][0] == 1
    assert got["overlap@0.9"][0] == 0
    nothing = score(MaxBoxAccV2(), Sample(sample.images, sample.labels), mask)
    assert all(value.isnan().all() for value in nothing.values())


@pytest.mark.parametrize("wrong", [(), (0.1, 0.1), (1.5,)])
def test_wrong_thresholds_are_refused(wrong):
    with pytest.raises(InputError, match="MaxBoxAccV2"):
        MaxBoxAccV2(thresholds=wrong)
