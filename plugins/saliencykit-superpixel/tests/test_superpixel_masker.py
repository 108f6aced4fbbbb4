import torch
from saliencykit_superpixel.lime import Lime
from saliencykit_superpixel.superpixel_rise import SuperpixelRise

from saliencykit import Alternative
from saliencykit.alternatives import Noise
from saliencykit.testing import Counting, PlantedEvidence


class Counted(Alternative):
    """Noise; counts how often it is drawn."""

    def __init__(self):
        self.calls = 0

    def fill(self, images, generator, mask=None):
        self.calls += len(images)
        return Noise()(images, generator=generator)


class Edited(Counted):
    def edit(self, images, mask, generator):
        return super().edit(images, mask, generator)


def test_all_sets_of_an_image_share_one_fill(generator):
    black_box = Counting(PlantedEvidence())
    images, labels = black_box.black_box.examples(3, generator=generator)
    one, many = Counted(), Edited()
    masks = []
    for alternative in (one, many):
        masker = Lime(samples=40, segments=9, compactness=100.0, alternative=alternative)
        masks.append(masker(black_box, images, labels, generator=torch.Generator().manual_seed(1)))
    assert one.calls == 3
    assert many.calls == 3 * 41
    assert torch.allclose(*masks, atol=1e-5)
    assert black_box.num_images == 2 * 3 * 41
    assert max(black_box.batch_sizes) <= 32


def test_a_constant_probability_gets_an_empty_map(generator):
    """Rounding noise is not scaled up to a map."""
    gray = torch.full((1, 3, 16, 16), 0.5) + torch.rand(1, 3, 16, 16, generator=generator) * 1e-6
    output = SuperpixelRise(samples=40, segments=9, compactness=100.0).attribute(
        Counting(PlantedEvidence(sharpness=1e-9)),
        gray,
        torch.zeros(1, dtype=torch.int64),
        generator=generator,
    )
    assert float(output.mask.max()) < 0.5
    assert float(output.attributions.abs().max()) < 1e-6
