import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.explanation.dataset_explainer import explain_dataset
from saliencykit.maskers.stored import StoredMasks
from saliencykit.registry.coerce import as_masker
from saliencykit.testing import check_masker


@pytest.fixture
def known(black_box, generator, tmp_path):
    images, _ = black_box.examples(4, generator=generator)
    labels = [0, 1, 2, 3]
    pairs = [*zip(images, labels, strict=True), *zip(images.flip(3), labels, strict=True)]
    explain_dataset(
        black_box,
        pairs,
        masker="occlusion:window=4,stride=4",
        output_dir=tmp_path / "run",
        overlays=0,
        map_dtype="float16",
    )
    return tmp_path / "run", images, torch.tensor(labels)


def test_keeps_the_masker_contract_on_known_images(black_box, known):
    run, images, _ = known
    check_masker(StoredMasks(run=str(run)), black_box=black_box, images=images)


def test_stored_masks_are_found_in_any_order(black_box, known, generator):
    run, images, labels = known
    wanted = as_masker("occlusion:window=4,stride=4")(
        black_box, images, labels, generator=generator
    )
    turned = torch.tensor([2, 0, 3, 1])
    output = as_masker(f"stored:{run}")(
        black_box, images[turned], labels[turned], generator=generator
    )
    assert torch.allclose(output, wanted[turned], atol=1 / 4096)


def test_unknown_images_and_classes_are_refused(black_box, known, generator):
    run, images, labels = known
    masker = StoredMasks(run=str(run))
    with pytest.raises(InputError, match="has a mask of 0 for class 0, but not for class 1"):
        masker(black_box, images, labels.roll(-1), generator=generator)
    with pytest.raises(InputError, match="has no mask of image 1"):
        masker(
            black_box, torch.cat([images[:1], images[1:2] * 0.5]), labels[:2], generator=generator
        )
    with pytest.raises(InputError, match=r"no manifest.json"):
        StoredMasks(run=str(run / "elsewhere"))
