import numpy as np
import pytest
from PIL import Image

from saliencykit.core.errors import SaliencyKitError
from saliencykit.maskers.realtime.masking_network import masking_network
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.testing.unchanged import untouched
from saliencykit.training.preview import save_preview


@pytest.fixture
def made(generator):
    black_box = PlantedEvidence()
    images, labels = black_box.examples(10, generator=generator, size=(16, 20))
    return masking_network(black_box, images), black_box, images, labels


def test_three_rows_of_at_most_eight(made, tmp_path):
    network, black_box, images, labels = made
    network.train()
    path = tmp_path / "new" / "grid.png"
    with untouched("save_preview", network, images=images):
        save_preview(network, black_box, images, labels, path=path)
    with Image.open(path) as photo:
        assert (photo.size, photo.mode) == ((8 * 20, 3 * 16), "RGB")
    save_preview(network, black_box, images[:3], labels[:3], path=path)
    with Image.open(path) as photo:
        assert photo.size == (3 * 20, 3 * 16)
        first = np.asarray(photo.crop((0, 0, 20, 16)), dtype=float) / 255
    assert np.abs(first - images[0].permute(1, 2, 0).numpy()).max() < 0.01


def test_where_it_cannot_be_written(made, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SaliencyKitError, match="cannot be written"):
        save_preview(*made, path=tmp_path / "file" / "grid.png")
