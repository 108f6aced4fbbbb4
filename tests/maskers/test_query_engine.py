import torch
from torch import Generator

from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.crop import Crop
from saliencykit.alternatives.noise import Noise
from saliencykit.core.alternative import compose
from saliencykit.maskers.query_engine import masked_queries
from saliencykit.testing.black_boxes import Counting, PlantedEvidence

MASKS = torch.rand(11, 1, 16, 16, generator=Generator().manual_seed(1))


def queries_of(black_box, examples, alternative):
    return list(masked_queries(black_box, *examples, alternative, Generator().manual_seed(0)))


def test_edits_compose_the_image_with_one_fill(black_box, examples):
    for queries, image in zip(
        queries_of(black_box, examples, Noise()), examples[0][:, None], strict=True
    ):
        expected = compose(image, MASKS, queries.fill)
        assert torch.allclose(queries.edits(MASKS), expected, atol=1e-6)


def test_an_alternative_with_its_own_edit_gets_each_mask(black_box, examples):
    for queries, image in zip(
        queries_of(black_box, examples, Crop()), examples[0][:, None], strict=True
    ):
        assert queries.fill is None
        expected = Crop().edit(image.expand(11, -1, -1, -1), MASKS, Generator())
        assert torch.allclose(queries.edits(MASKS), expected)


def test_queries_run_in_batches_up_to_max_batch(examples):
    black_box = Counting(PlantedEvidence(max_batch_size=4))
    queries = queries_of(black_box, examples, Blur())[0]
    logits = queries.logits(11, lambda part: MASKS[part])
    assert black_box.batch_sizes == [4, 4, 3]
    assert torch.allclose(logits, PlantedEvidence()(queries.edits(MASKS)), atol=1e-6)
    expected = logits.softmax(1)[:, int(queries.label)]
    assert torch.allclose(queries.evidence(logits), expected)


def test_the_fill_of_an_image_does_not_depend_on_its_batch(black_box, examples):
    images, labels = examples
    whole = queries_of(black_box, examples, Noise())[2]
    alone = queries_of(black_box, (images[2:3], labels[2:3]), Noise())[0]
    assert torch.equal(whole.fill, alone.fill)
