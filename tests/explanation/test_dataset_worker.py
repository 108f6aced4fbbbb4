import pytest
import torch

from saliencykit.alternatives.blur import Blur
from saliencykit.black_boxes.cached import CachedCopies
from saliencykit.core.errors import SaliencyKitError
from saliencykit.core.masker import Masker
from saliencykit.data.batches import by_size, in_blocks
from saliencykit.data.loaded_image import LoadedImage
from saliencykit.explanation.dataset_worker import Worker, draw
from saliencykit.maskers.baselines import CenterBox


def image(index, size=8, **options):
    return LoadedImage(index, str(index), torch.full((1, 3, size, size), 0.5), **options)


def test_blocks_are_cut_by_index_alone():
    each = [image(i) for i in (0, 1, 4, 5, 6, 9)]
    assert [[p.index for p in block] for block in in_blocks(each, 4)] == [[0, 1], [4, 5, 6], [9]]
    assert list(in_blocks([], 4)) == []


def test_each_size_together_without_the_damaged():
    some = [image(0), image(1, 9), LoadedImage(2, "2", failure="damaged"), image(3)]
    assert [[p.index for p in group] for group in by_size(some)] == [[0, 3], [1]]


def test_without_a_check_nothing_is_kept_or_dropped(black_box):
    worker = Worker(CachedCopies(black_box), CenterBox(area=0.25), None, None, 0, "uint8")
    (one,) = worker.explain([image(0, 8, label=2)])
    assert (one.row.kept, one.row.dropped, one.row.label, one.row.area) == (None, None, 2, 0.25)
    assert one.map.dtype == torch.uint8
    shown = image(0)
    assert draw(shown, one.mask).size == (320, 320)
    checked = Worker(
        CachedCopies(black_box), CenterBox(area=0.25), Blur(), 1, 0, "float16"
    ).explain([image(0, 8, label=2)])[0]
    assert checked.row.label == 1
    assert checked.map.dtype == torch.float16
    assert 0 <= checked.row.kept <= 1


class Hungry(Masker):
    def mask(self, black_box, images, labels, generator):
        raise MemoryError


def test_one_image_too_large_for_memory_is_a_row_and_a_batch_is_an_error(black_box):
    worker = Worker(CachedCopies(black_box), Hungry(), None, None, 0, "uint8")
    (one,) = worker.explain([image(0)])
    assert one.map is None
    assert one.row.failure.startswith("Hungry needs more memory than cpu has for one image")
    with pytest.raises(SaliencyKitError, match="for a batch of 2 images; use a smaller batch"):
        worker.explain([image(0), image(1)])
