"""BatchScorer: in any engine, the scores of evaluate."""

import pickle

import numpy as np
import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.core.metric import Metric
from saliencykit.evaluation.batch_scorer import BatchScorer
from saliencykit.evaluation.evaluate_maskers import evaluate
from saliencykit.explanation.batch_explainer import BatchExplainer
from saliencykit.testing.black_boxes import PlantedEvidence

MASKER = "rise:samples=24,estimate=mean"
METRICS = ("saliency-score", "deletion:steps=4", "localization")


def batch_of(count=6):
    images, labels = PlantedEvidence().examples(count, generator=torch.Generator().manual_seed(0))
    given = list(images)
    given[4:5] = [b"no image"] * (count > 4)
    boxes = [[[0, 0, 8, 8]]] * count
    return {"image": given, "label": labels.tolist(), "boxes": boxes, "id": list(range(count))}


def scorer(metrics=METRICS, **options):
    return BatchScorer(PlantedEvidence(), metrics, **{"batch_size": 4} | options)


def assert_same(one, other):
    assert list(one) == list(other)
    for name, values in one.items():
        np.testing.assert_array_equal(np.asarray(values), np.asarray(other[name]), err_msg=name)


def test_scores_of_a_masker_are_those_of_evaluate():
    batch = batch_of()
    pairs = list(zip(batch["image"], batch["label"], strict=True))
    metrics = METRICS[:2]
    rows = evaluate(PlantedEvidence(), MASKER, metrics, pairs, baselines=False, batch_size=4).rows
    out = scorer(metrics, masker=MASKER)(batch)
    assert set(rows[0].scores) | {"id", "boxes", "label", "probability", "failure"} <= set(out)
    assert "image" not in out
    for i, row in enumerate(rows):
        assert (out["failure"][i], out["id"][i]) == (row.failure or "", i)
        assert out["label"][i] == (-1 if row.label is None else row.label)
        for name in row.scores:
            assert out[name][i] == row.scores[name]
    assert np.isnan(out["saliency-score/area"][4])


def test_masks_of_a_batch_explainer_are_scored_as_its_masker_is():
    batch = batch_of()
    explained = BatchExplainer(PlantedEvidence(), masker=MASKER, batch_size=4)(batch)
    given = scorer()(batch | {"mask": explained["mask"]})
    made = scorer(masker=MASKER)(batch)
    scores = [name for name in made if "/" in name]
    assert np.isfinite([made[name][0] for name in scores]).all()
    for name in scores:
        np.testing.assert_allclose(given[name], made[name], atol=0.03, err_msg=name)
    assert given["failure"][4] != ""


def test_each_row_has_its_own_mask_also_of_one_image_and_of_any_size():
    image = batch_of(1)["image"][0]
    masks = [
        np.full((4, 4), 255, np.uint8),
        torch.arange(16) < torch.full((16, 1), 8),  # the left half
        b"",
        b"no png",
        np.full((2, 2), 7.0),
    ]
    out = scorer("saliency-score")({"image": [image] * 5, "label": [0] * 5, "mask": masks})
    assert out["saliency-score/area"][:2].tolist() == [1, 0.5]
    assert [text[:20] for text in out["failure"]][2:] == [
        "there is no mask.", "its mask cannot be r", "its mask is not an a"
    ]  # fmt: skip


def test_columns_are_the_same_where_nothing_can_be_scored():
    batch = {"image": [b"no image"], "label": [1]}
    bad, good = scorer(masker=MASKER)(batch), scorer(masker=MASKER)(batch_of(1))
    assert [name for name in good if name not in ("id", "boxes")] == list(bad)


def test_pickled_it_scores_the_same():
    batch, used = batch_of(), scorer(masker=MASKER)
    assert_same(used(batch), pickle.loads(pickle.dumps(used))(batch))


def test_arrow_batches_come_back_with_nulls():
    pyarrow = pytest.importorskip("pyarrow")
    batch = batch_of()
    masks = BatchExplainer(PlantedEvidence(), masker=MASKER)(batch)["mask"].tolist()
    table = pyarrow.table(
        {"image": [b"no image"] * 2, "mask": masks[:2], "boxes": [[[0.0, 0.0, 8.0, 8.0]], []]}
    )
    out = scorer("deletion:steps=4")(table)
    assert out.column("deletion:steps=4/auc").null_count == 2
    assert out.column("boxes").to_pylist() == table.column("boxes").to_pylist()


class Other(Metric):
    """Needs the mask of another class."""

    higher_is_better = True

    def score(self, black_box, sample, mask, *, explain, generator):
        return explain(sample.images, (sample.labels + 1) % 4).mean((1, 2, 3))


def test_a_metric_that_needs_the_masker_says_so_where_masks_are_given():
    batch = batch_of(2) | {"mask": [torch.ones(4, 4)] * 2}
    out = scorer({"other": Other(), "deletion": "deletion:steps=4"})(batch)
    assert all("write BatchScorer(..., masker='rise')" in text for text in out["failure"])
    assert np.isfinite(out["deletion/auc"]).all()
    assert np.isnan(out["other"]).all()


def test_without_masks_and_masker_it_says_what_to_write():
    with pytest.raises(
        InputError, match=r"a column 'mask', which this batch lacks; write .*masker="
    ):
        scorer()(batch_of(1))
    with pytest.raises(InputError, match=r"BatchScorer\(seed=-1"):
        scorer(seed=-1)


def test_boxes_that_are_no_boxes_are_a_failure_of_their_row():
    out = scorer("localization", masker=MASKER)(batch_of(2) | {"boxes": [[[0, 0, 8, 8]], [[3]]]})
    assert out["failure"].tolist()[0] == ""
    assert "expected rows of x0, y0, x1, y1" in out["failure"][1]
