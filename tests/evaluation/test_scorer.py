import pytest
import torch

from saliencykit.black_boxes.cached import CachedCopies
from saliencykit.core.errors import SaliencyKitError
from saliencykit.core.masker import Masker
from saliencykit.core.metric import Metric, Sample
from saliencykit.data.batches import Batch
from saliencykit.evaluation.scorer import Scorer, score_name
from saliencykit.maskers.baselines import CenterBox, WholeImage


class Area(Metric):
    higher_is_better = False

    def score(self, black_box, sample, mask, *, explain, generator):
        return mask.mean((1, 2, 3))


def test_each_masker_has_a_list_of_rows_with_their_masks(black_box, examples):
    scorer = Scorer(
        CachedCopies(black_box), {"center": CenterBox(), "whole": WholeImage()}, {"area": Area()}, 0
    )
    found = list(
        scorer.score(Batch((4, 5, 6, 7), tuple("abcd"), Sample(*examples)), ["whole", "center"])
    )
    assert [[one.row.key for one in rows] for rows in found] == [
        [(i, name) for i in range(4, 8)] for name in ("whole", "center")
    ]
    assert [one.row.sample for one in found[0]] == list("abcd")
    assert all(
        one.row.scores["area"] == pytest.approx(float(one.mask.mean()))
        for rows in found
        for one in rows
    )
    assert all(one.row.seconds >= 0 for one in found[0])


class Hungry(Masker):
    def mask(self, black_box, images, labels, generator):
        raise MemoryError


def test_a_batch_too_large_for_memory_is_an_error_and_one_image_a_row(black_box, examples):
    scorer = Scorer(CachedCopies(black_box), {"hungry": Hungry()}, {"area": Area()}, 0)
    with pytest.raises(SaliencyKitError, match="hungry needs more memory than cpu has"):
        list(scorer.score(Batch((0, 1, 2, 3), tuple("abcd"), Sample(*examples)), ["hungry"]))
    one = Batch((0,), ("a",), Sample(examples[0][:1], examples[1][:1]))
    (((scored,),),) = [list(scorer.score(one, ["hungry"]))]
    assert scored.row.failure.startswith("hungry needs more memory than cpu has for one image")


def test_a_trained_masker_shares_the_classifiers_pass():
    from saliencykit.core.output import probability
    from saliencykit.demo import demo_black_box
    from saliencykit.registry.coerce import as_masker

    black_box = demo_black_box()
    masker = as_masker("demo").for_black_box(black_box)
    images, labels = (
        torch.rand(2, 3, 80, 80, generator=torch.Generator().manual_seed(0)),
        torch.tensor([3, 5]),
    )
    scorer = Scorer(CachedCopies(black_box), {"demo": masker}, {"area": Area()}, 0)
    (rows,) = scorer.score(Batch((0, 1), ("a", "b"), Sample(images, labels)), ["demo"])
    wanted = masker(black_box, images, labels, generator=torch.Generator().manual_seed(0))
    sure = probability(black_box(images), labels, black_box.output)
    for i, one in enumerate(rows):
        assert torch.allclose(one.mask, wanted[i : i + 1], atol=1e-5)
        assert one.row.probability == pytest.approx(float(sure[i]), abs=1e-5)


def test_a_metrics_only_score_has_the_metrics_name():
    assert score_name("area", Area(), "Area") == "area"
    assert score_name("area", Area(), "part") == "area/part"
