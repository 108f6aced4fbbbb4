import torch
from saliencykit_superpixel.flat import Flat
from saliencykit_superpixel.segments import superpixels


def test_each_superpixel_has_its_mean(generator):
    images = torch.rand(2, 3, 20, 17, generator=generator)
    fill = Flat(segments=6)(images, generator=generator)
    for image, flat in zip(images, fill, strict=True):
        numbers = superpixels(image[None], 6, 10.0)
        for j in range(int(numbers.max()) + 1):
            assert torch.allclose(
                flat[:, numbers == j], image[:, numbers == j].mean(1, keepdim=True), atol=1e-6
            )
