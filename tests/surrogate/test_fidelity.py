import math

import numpy as np
import pytest
import torch

from saliencykit.surrogate.fidelity import fidelity, is_low


def softmax(row):
    return np.exp(row - row.max()) / np.exp(row - row.max()).sum()


@pytest.fixture
def logits(generator):
    return torch.randn(2, 24, 5, generator=generator).mul(2).unbind()


PLACES = {"whole": torch.arange(0, 24, 2), "half": torch.arange(1, 24, 2)}


def test_against_the_formulas_photo_by_photo(logits):
    mine, theirs = logits
    figures = fidelity(mine, theirs, PLACES)
    kl, same, apart = ({"whole": [], "half": []} for _ in range(3))
    for photo in range(12):
        queried = int(theirs[2 * photo].argmax())
        for kind, row in (("whole", 2 * photo), ("half", 2 * photo + 1)):
            q, p = softmax(mine[row].double().numpy()), softmax(theirs[row].double().numpy())
            kl[kind].append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
            same[kind].append(p[q.argmax()] >= p.max() - 0.02)
            apart[kind].append(abs(p[queried] - q[queried]))
    for kind in PLACES:
        assert figures[kind]["n"] == 12
        for name, values in (("kl", kl), ("agreement", same), ("difference", apart)):
            found = figures[kind][name]
            assert found["mean"] == pytest.approx(np.mean(values[kind]))
            assert found["low"] <= found["mean"] <= found["high"]
    assert figures["all"]["kl"]["mean"] == pytest.approx(np.mean(kl["whole"] + kl["half"]))


def test_an_undecided_box_has_no_top_class():
    theirs = torch.tensor([[0.0, 0.01, 0.0], [3.0, 0.0, 0.0]])
    mine = torch.tensor([[0.0, 0.0, 0.5], [0.0, 3.0, 0.0]])
    assert fidelity(mine, theirs, {"whole": torch.arange(2)})["all"]["agreement"]["mean"] == 0.5


def test_the_rule():
    theirs = torch.eye(4) * 9
    assert not is_low(fidelity(theirs, theirs, {"whole": torch.arange(4)}))
    assert is_low(fidelity(theirs.flip(1), theirs, {"whole": torch.arange(4)}))
    # the same class, far less sure
    assert is_low(fidelity(theirs / 6, theirs, {"whole": torch.arange(4)}))
