"""explain(target=): anything with a score is explained like a class."""

import pytest
import torch
from torch import nn

from saliencykit import (
    Contrast,
    DetectionScore,
    SegmentationClass,
    Similarity,
    TorchBlackBox,
    explain,
)
from saliencykit.core.errors import InputError
from saliencykit.core.map_placement import place_maps, resize_maps
from saliencykit.explanation import with_target
from saliencykit.maskers import GradCam, masking_network
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.testing import PlantedEvidence
from tests.helpers import fixed, seeded


class Segmenter(nn.Module):
    """A fully convolutional network that returns a dict, as torchvision's do."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1))
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, images):
        return {"out": self.head(self.body(images).relu())}


def classifier():
    trunk = (nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
    return nn.Sequential(*trunk, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


# a side of 33: each layer of the classifier below lies evenly on the image
IMAGES = torch.rand(2, 3, 33, 33, generator=seeded())


def correlation(a, b):
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def test_a_target_that_picks_a_class_finds_its_planted_evidence():
    black_box = PlantedEvidence()
    images, labels = black_box.examples(4, generator=seeded())
    truth = black_box.evidence(images, labels)
    by_class = explain(black_box, images, labels, masker="rise:samples=600").mask
    own = torch.stack(
        [
            explain(
                black_box,
                images[i],
                target=lambda logits, c=int(labels[i]): logits[:, c],
                masker="rise:samples=600",
            ).mask[0]
            for i in range(4)
        ]
    )
    inside, by_class_inside = ((m * truth).sum() / m.sum() for m in (own, by_class))
    assert inside > by_class_inside - 0.05


@pytest.mark.parametrize("masker", ["gradient", "grad-cam", "layer-cam"])
def test_a_contrast_equals_the_difference_of_two_logits(masker):
    net = fixed(classifier, 3)

    class Difference(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, images):
            logits = self.net(images)
            return (logits[:, 3] - logits[:, 1])[:, None]

    ours = explain(net, IMAGES, target=Contrast(3, against=1), masker=masker)
    theirs = explain(Difference(), IMAGES, 0, output="score", masker=masker)
    assert torch.allclose(ours.mask, theirs.mask, atol=1e-5)
    assert torch.allclose(ours.logits[:, [3]], theirs.logits, atol=1e-5)
    assert torch.allclose(ours.probability, theirs.logits[:, 0].sigmoid(), atol=1e-5)


def test_cam_of_a_contrast_is_the_difference_of_two_maps():
    net = fixed(classifier, 3)
    contrast = explain(net, IMAGES, 3, target=Contrast(against=1), masker="cam").attributions
    own, rival = (explain(net, IMAGES, c, masker="cam").attributions for c in (3, 1))
    assert torch.allclose(contrast, own - rival, atol=1e-5)


def test_a_trained_masker_takes_a_contrast_in_one_pass_and_keeps_its_own_classes():
    net = fixed(classifier, 3)
    black_box = with_target(net_black_box(net), Contrast(against=1))
    masker = RealTimeMasker(masking_network(net_black_box(net), IMAGES)).bind(net_black_box(net))
    plain = explain(net, IMAGES, 3, masker=masker).mask
    contrast = explain(net, IMAGES, 3, target=Contrast(against=1), masker=masker).mask
    again = explain(net, IMAGES, 3, masker=masker).mask
    assert torch.equal(plain, again)
    assert not torch.equal(plain, contrast)
    logits, mask = masker.for_black_box(black_box).predict(IMAGES, torch.tensor([3, 3]))
    assert torch.allclose(logits[:, 1], torch.zeros(2))
    assert mask.shape == plain.shape


def net_black_box(net):
    return TorchBlackBox(net, size=32)


def test_names_work_in_a_contrast_and_a_class_against_itself_does_not():
    black_box, names = PlantedEvidence(), PlantedEvidence().class_names
    images, _ = black_box.examples(1, generator=seeded())
    answer = explain(
        black_box, images, target=Contrast(names[0], against=names[2]), masker="rise:samples=16"
    )
    assert answer.label_names == (names[0],)
    assert float(answer.logits[0, 2]) == 0
    with pytest.raises(InputError, match="contrasted with itself"):
        explain(black_box, images, 2, target=Contrast(against=2), masker="rise:samples=16")
    with pytest.raises(InputError, match=r"outside 0\.\.3"):
        explain(black_box, images, target=Contrast(against=9), masker="rise:samples=16")


def test_a_target_of_another_kind_is_refused():
    with pytest.raises(InputError, match=r"must be a callable.*target=Contrast\(against"):
        explain(fixed(classifier, 3), IMAGES, target="cat")


@pytest.mark.parametrize("masker", ["cam", "trained"])
def test_maskers_of_classes_say_why_they_cannot_explain_a_target(masker):
    net = fixed(classifier, 3)
    if masker == "trained":
        masker = RealTimeMasker(masking_network(net_black_box(net), IMAGES))
    with pytest.raises(InputError, match="a target is explained"):
        explain(net, IMAGES, target=Similarity(torch.ones(5)), masker=masker)


def grad_cam_of_peer(model, images, layer, target):
    peer = pytest.importorskip("pytorch_grad_cam")
    with peer.GradCAM(model, [layer]) as cam:
        return torch.from_numpy(cam(images, [target] * len(images)))[:, None]


def test_segmentation_equals_pytorch_grad_cam():
    net, region = fixed(Segmenter, 3), torch.zeros(17, 17)
    region[4:12, 2:9] = 1

    class Tensor(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, images):
            return self.net(images)["out"]

    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    target = targets.SemanticSegmentationTarget(2, region.numpy())
    theirs = grad_cam_of_peer(Tensor(), IMAGES, net.body[2], target)
    ours = explain(net, IMAGES, target=SegmentationClass(2, region), masker=GradCam(layer="body.2"))
    for a, b in zip(ours.mask, theirs, strict=True):
        assert correlation(a, b) > 0.999


def test_similarity_equals_pytorch_grad_cam():
    net = fixed(classifier, 3)
    reference = torch.randn(5, generator=seeded())

    def target(embedding):
        return torch.nn.functional.cosine_similarity(embedding, reference, dim=0)

    theirs = grad_cam_of_peer(net, IMAGES, net[2], target)
    ours = explain(net, IMAGES, target=Similarity(reference), masker=GradCam(layer="2"))
    for a, b in zip(ours.mask, theirs, strict=True):
        assert correlation(a, b) > 0.999


@pytest.mark.slow
def test_detection_equals_pytorch_grad_cam():
    detection = pytest.importorskip("torchvision.models.detection")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    make = detection.fasterrcnn_mobilenet_v3_large_320_fpn
    options = {"weights": None, "weights_backbone": None, "box_score_thresh": 0.0}
    net = fixed(lambda: make(num_classes=5, **options), 3)
    generator = seeded()
    for layer in net.backbone.body.modules():
        if isinstance(layer, nn.Conv2d):  # else the maps are too small for float32
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear", generator=generator)
    image = torch.rand(1, 3, 160, 160, generator=seeded())
    with torch.no_grad():
        found = net(image)[0]
    bbox, label = found["boxes"][0], int(found["labels"][0])
    target = targets.FasterRCNNBoxScoreTarget([label], [bbox.numpy()], iou_threshold=0.5)
    theirs = grad_cam_of_peer(net, image, net.backbone.body["16"], target)
    masker = GradCam(layer="backbone.body.16")
    for mine in (bbox, bbox + 1e-3):  # found in another batch: rounding must not decide
        scored = DetectionScore(mine.tolist(), label)
        black_box = with_target(TorchBlackBox(net), scored)
        ours = masker.mask(black_box, image, torch.tensor([0]), seeded())
        # at the layer's resolution: pytorch-grad-cam enlarges as if its strides saw an even grid
        assert correlation(resize_maps(ours.mask, (160, 160)), theirs) > 0.999
        placed = explain(net, image, target=scored, masker=masker, verify=False).mask
        assert torch.equal(placed, place_maps(ours.mask, (160, 160), ours.offset).clamp(0, 1))


def test_what_an_output_means_is_not_said_of_a_target() -> None:
    with pytest.raises(InputError, match="the result of a target is a score"):
        explain(
            nn.Conv2d(3, 2, 3), IMAGES, target=lambda answer: answer.mean((2, 3)), output="sigmoid"
        )
