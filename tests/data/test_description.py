from pathlib import Path

import numpy as np
import torch
from PIL import Image

from saliencykit.core.metric import Sample
from saliencykit.data.description import describe_source


def test_data_in_words(tmp_path):
    sample = Sample(torch.zeros(3, 3, 4, 4), torch.tensor([0, 1, 2]))
    text = describe_source([sample], max_images=None, labels={"a": 1})
    assert text.startswith("3 images in memory, ")
    assert ", labels=1 entries, " in text
    assert describe_source([sample]) != describe_source(
        [Sample(torch.ones(3, 3, 4, 4), torch.tensor([0, 1, 2]))]
    )
    assert describe_source("photos", max_images=5) == "photos, max_images=5"
    assert describe_source(iter([])) == "items of list_iterator"


def test_lists_of_other_images_or_labels_are_told_apart():
    image, array = Image.new("RGB", (4, 4), (1, 2, 3)), np.zeros((4, 4, 3), np.uint8)
    images = torch.zeros(2, 3, 4, 4)
    lists = [
        [(images[0], 0)], [(images[0], 1)], [(images[0] + 1, 0)], [(images, torch.tensor([0, 1]))],
        [(images, torch.ones(2))],
        [("a.png", "cat")], [("b.png", "cat")], [(Path("a.png"), None)], [(image, 0)],
        [(array, 0)], [(array + 1, 0)],
        [Sample(images, torch.tensor([0, 1])), (images[0], 0)],
    ]  # fmt: skip
    told = [describe_source(each) for each in lists]
    assert len(set(told)) == len(lists)
    assert told == [describe_source(each) for each in lists]
    assert told[0].startswith("1 items of list, ")
    assert describe_source([object()]) == describe_source([object()])
