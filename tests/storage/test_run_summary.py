from math import isnan

import numpy as np
import pytest

from saliencykit.storage.explanation_rows import ExplainedRow
from saliencykit.storage.run_summary import summarize


def test_means_quartiles_and_reasons():
    areas = [0.1, 0.4, 0.2, 0.9]
    rows = [ExplainedRow(name=str(i), index=i, area=area) for i, area in enumerate(areas)]
    rows += [ExplainedRow(name=f"bad{i}", index=4 + i, failure="b" if i else "a") for i in range(7)]
    found = summarize(rows, few=2)
    assert (found.images, found.explained) == (11, 4)
    assert found.columns["area"] == pytest.approx(
        (np.mean(areas), *np.quantile(areas, (0.25, 0.5, 0.75)))
    )
    assert all(isnan(value) for value in found.columns["kept"])
    assert list(found.failures.items()) == [("b", (6, ("bad1", "bad2"))), ("a", (1, ("bad0",)))]


def test_images_with_another_predicted_class_are_counted():
    labels = [(0, 0), (1, 0), (2, None), (0, 2)]
    rows = [
        ExplainedRow(name=str(i), index=i, label=label, predicted=predicted)
        for i, (label, predicted) in enumerate(labels)
    ]
    count, some = summarize(rows, few=1).mispredicted
    assert (count, [row.predicted_text for row in some]) == (2, ["class 0"])


def test_of_nothing():
    assert summarize([]).images == 0
