import numpy as np
import pytest
import torch
import torch.nn.functional as F

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.metric import Sample
from saliencykit.evaluation.evaluate_maskers import evaluate
from saliencykit.metrics.mosaic import Mosaic, lay_out, quarter_masks
from saliencykit.testing import check_metric
from saliencykit.testing.black_boxes import Counting, PlantedEvidence

BOX = PlantedEvidence()


def examples(count, seed, size=(16, 16)):
    return Sample(*BOX.examples(count, generator=torch.Generator().manual_seed(seed), size=size))


def plain(color, label):
    """An image of one color is its own shrunk copy."""
    return torch.tensor(color).view(1, 3, 1, 1).expand(1, 3, 16, 16), torch.tensor([label])


COLORS = torch.tensor([[0.1, 0.2, 0.3], [0.9, 0.1, 0.1], [0.2, 0.8, 0.1], [0.1, 0.1, 0.7]])
PLAIN = Sample(COLORS[:, :, None, None].expand(4, 3, 16, 16), torch.arange(4))


def query_batched(metric, sample, explain, black_box=BOX, seed=0):
    mask = torch.ones(len(sample.images), 1, *sample.images.shape[2:])
    return metric(
        black_box, sample, mask, explain=explain, generator=torch.Generator().manual_seed(seed)
    )


def test_it_equals_a_slow_reference_on_plain_images():
    """With images of one color each, the mosaic's quarters can be recognized, and the right mass
    counted by hand.
    """
    noise = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    seen = []

    def explain(mosaics, labels):
        seen.append((mosaics, labels))
        return noise

    places = set()
    for seed in range(8):
        got = query_batched(Mosaic(others=PLAIN), PLAIN, explain, seed=seed)
        mosaics, labels = seen[-1]
        assert torch.equal(labels, PLAIN.labels)
        for i in range(4):
            held, colors = 0.0, set()
            for y in range(16):
                for x in range(16):
                    pixel = mosaics[i, :, y, x]
                    which = int((COLORS - pixel).abs().sum(1).argmin())
                    assert torch.allclose(COLORS[which], pixel, atol=1e-5)
                    colors.add(which)
                    held += float(noise[i, 0, y, x]) * (which == i)
            assert colors == {0, 1, 2, 3}
            assert got["share"][i].item() == pytest.approx(held / float(noise[i].sum()), abs=1e-5)
            places.add(int(quarter_of(mosaics[i], COLORS[i])))
        wanted = BOX(mosaics).softmax(1).diagonal()
        assert torch.allclose(got["probability"], wanted, atol=1e-6)
    assert places == {0, 1, 2, 3}


def quarter_of(mosaic, color):
    corners = [mosaic[:, y, x] for y in (0, -1) for x in (0, -1)]
    return int(np.argmin([float((c - color).abs().sum()) for c in corners]))


@pytest.mark.parametrize("size", [(16, 16), (9, 13)])
def test_the_layout_is_four_shrunk_images(size):
    g = torch.Generator().manual_seed(0)
    images, others = torch.rand(5, 3, *size, generator=g), torch.rand(5, 3, 3, 20, 30, generator=g)
    places = torch.tensor([0, 1, 2, 3, 1])
    mosaics = lay_out(images, others, places)
    height, width = size
    cuts = [
        (r, c)
        for r in ((0, height // 2), (height // 2, height))
        for c in ((0, width // 2), (width // 2, width))
    ]
    for i, place in enumerate(places.tolist()):
        order = list(others[i])
        order.insert(place, images[i])
        for part, ((y0, y1), (x0, x1)) in zip(order, cuts, strict=True):
            small = F.interpolate(
                part[None],
                size=(y1 - y0, x1 - x0),
                mode="bilinear",
                antialias=True,
                align_corners=False,
            )[0]
            assert torch.allclose(mosaics[i, :, y0:y1, x0:x1], small, atol=1e-6)
    own = quarter_masks(places, mosaics[:, :1])
    assert own.flatten(1).sum(1).tolist() == [
        (y1 - y0) * (x1 - x0) for (y0, y1), (x0, x1) in (cuts[p] for p in places.tolist())
    ]


def test_a_perfect_mask_scores_1_and_a_constant_or_empty_one_a_quarter():
    sample, others = examples(6, 0), examples(20, 1)
    metric = Mosaic(others=others)
    places = []

    def perfect(mosaics, labels):
        own = torch.zeros(6, 1, 16, 16)
        order = metric._order(sample, torch.Generator().manual_seed(0))
        places.append(order[1])
        return own + quarter_masks(order[1], own)

    assert query_batched(metric, sample, perfect)["share"].tolist() == [1.0] * 6
    for value in (0.0, 0.4):
        got = query_batched(
            metric, sample, lambda x, y, value=value: torch.full((6, 1, 16, 16), value)
        )
        assert got["share"].tolist() == pytest.approx([0.25] * 6)


def test_partners_have_three_other_classes():
    sample, others = examples(8, 0), examples(30, 1)
    partners, _ = Mosaic(others=others)._order(sample, torch.Generator().manual_seed(0))
    for own, some in zip(sample.labels.tolist(), others.labels[partners].tolist(), strict=True):
        assert len({own, *some}) == 4


def test_the_contract_holds_with_a_set_and_without():
    check_metric(Mosaic(others=examples(12, 3, size=(11, 15))))
    check_metric(Mosaic())


def test_without_three_other_classes_there_is_no_mosaic():
    black_box = Counting(BOX)
    two = Sample(PLAIN.images[:3], PLAIN.labels[:3])
    got = query_batched(Mosaic(others=two), PLAIN, lambda x, y: x[:, :1], black_box)
    assert got["share"].isnan().tolist() == [True, True, True, False]
    assert black_box.num_images == 1
    got = query_batched(Mosaic(), PLAIN, lambda x, y: x[:, :1], black_box)
    assert got["share"].isnan().all()
    assert black_box.num_images == 1


def test_for_data_sets_the_others_unless_there_are_some():
    assert Mosaic().for_data(PLAIN).others is PLAIN
    assert Mosaic(others=PLAIN).for_data(examples(3, 0)).others is PLAIN
    assert repr(Mosaic(others=PLAIN)) == "Mosaic(shrink=True)"


def test_evaluate_gives_it_images_from_all_parts_of_the_data():
    """Sorted by class, as folders are: the first 32 images are all of one class."""
    sample = examples(120, 5)
    order = sample.labels.argsort()
    data = [
        (image, int(label))
        for image, label in zip(sample.images[order], sample.labels[order], strict=True)
    ]
    for given in (data, iter(data[::4])):
        scores = evaluate(BOX, ["whole-image"], ["mosaic"], given, baselines=False, max_images=None)
        shares = [row.scores["mosaic/share"] for row in scores.rows]
        assert shares == pytest.approx([0.25] * len(shares))


def test_wrong_images_are_refused():
    with pytest.raises(InputError, match="at least one"):
        Mosaic(others=Sample(torch.zeros(0, 3, 4, 4), torch.zeros(0, dtype=torch.int64)))
    with pytest.raises(InputError, match="2 pixels"):
        lay_out(
            torch.zeros(1, 3, 1, 4), torch.zeros(1, 3, 3, 4, 4), torch.zeros(1, dtype=torch.int64)
        )
    with pytest.raises(InputError, match="channels"):
        lay_out(
            torch.zeros(1, 1, 4, 4), torch.zeros(1, 3, 3, 4, 4), torch.zeros(1, dtype=torch.int64)
        )


def test_parts_keep_their_size_without_shrinking():
    places = torch.tensor([2, 0])
    sample = examples(2, 3, size=(10, 13))
    others = torch.rand(2, 3, 3, 10, 13, generator=torch.Generator().manual_seed(0))
    mosaics = lay_out(sample.images, others, places, shrink=False)
    assert mosaics.shape == (2, 3, 20, 26)
    assert torch.equal(mosaics[0, :, 10:, :13], sample.images[0])
    assert torch.equal(mosaics[1, :, :10, :13], sample.images[1])
    assert torch.equal(mosaics[0, :, :10, 13:], others[0, 1])
    assert torch.equal(mosaics[1, :, 10:, 13:], others[1, 2])


def test_a_mosaic_of_full_size_is_scored_by_its_own_quarter():
    """The planted evidence is found in images of any size."""
    sample = examples(6, 5)
    got = query_batched(Mosaic(others=examples(12, 6), shrink=False), sample, BOX.evidence)
    shrunk = query_batched(
        Mosaic(others=examples(12, 6)),
        sample,
        lambda images, labels: torch.ones(len(images), 1, *images.shape[2:]),
    )
    assert got["share"].shape == shrunk["share"].shape
    assert bool(((got["share"] >= 0) & (got["share"] <= 1)).all())


def test_a_model_of_one_size_refuses_mosaics_of_full_size():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 4))
    with pytest.raises(InputError, match="32 x 32; write shrink=True"):
        query_batched(
            Mosaic(others=examples(12, 6), shrink=False),
            examples(2, 5),
            lambda images, labels: images[:, :1],
            TorchBlackBox(net, mean=(0.0,) * 3, std=(1.0,) * 3, size=16),
        )
