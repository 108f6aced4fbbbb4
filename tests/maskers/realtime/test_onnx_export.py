import pytest
import torch
from torch import nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.maskers.realtime import onnx_export
from saliencykit.maskers.realtime.masking_network import masking_network
from saliencykit.maskers.realtime.pretrained_encoder import PretrainedEncoder
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.testing.unchanged import untouched

onnxruntime = pytest.importorskip("onnxruntime")


def bound(black_box, images, encoder="auto", confidence=0.0):
    network = masking_network(black_box, images, encoder=encoder).eval()
    with torch.no_grad():
        last = network.decoder.last
        last.weight.copy_(
            0.3 * torch.randn(last.weight.shape, generator=torch.Generator().manual_seed(3))
        )
    return RealTimeMasker(network=network, confidence=confidence).bind(black_box)


def run(path, images, labels=None):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = {"images": images.numpy()} | ({} if labels is None else {"labels": labels.numpy()})
    return [torch.from_numpy(output) for output in session.run(["logits", "mask"], given)]


def agree(path, masker, images, labels=None):
    logits, mask = run(path, images, labels)
    expected, expected_mask = masker.predict(images, labels)
    assert torch.allclose(logits, expected, atol=1e-4, rtol=1e-4)
    assert torch.allclose(mask, expected_mask, atol=1e-4)
    assert mask.shape == (len(images), 1, *images.shape[2:])
    assert mask.min() >= 0
    assert mask.max() <= 1


def trained(name, side=None, **options):
    """A timm or torchvision model with random weights and batch-norm statistics of noise."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name.startswith("torchvision:"):
            torchvision = pytest.importorskip("torchvision")
            model = getattr(torchvision.models, name.partition(":")[2])(weights=None)
        else:
            timm = pytest.importorskip("timm")
            model = timm.create_model(name, pretrained=False, num_classes=10, **options)
        model.train()
        with torch.no_grad():
            for _ in range(5):
                model(torch.randn(4, 3, side, side))
    return TorchBlackBox(model.eval(), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), size=side)


@pytest.fixture
def traced(monkeypatch):
    """Exports by tracing only, which is fast."""
    write, ways = onnx_export._write, []

    def only_traced(graph, inputs, path, dynamo):
        ways.append(dynamo)
        if dynamo:
            raise RuntimeError("control flow")
        write(graph, inputs, path, dynamo)

    monkeypatch.setattr(onnx_export, "_write", only_traced)
    return ways


@pytest.mark.slow  # by torch.export, as in test_without_torch
def test_one_file_takes_any_batch_size(net, photos, tmp_path, monkeypatch):
    write, ways = onnx_export._write, []
    monkeypatch.setattr(
        onnx_export, "_write", lambda *given: (ways.append(given[-1]), write(*given))
    )
    images = photos(5)
    masker = bound(net("convolutional"), images)
    assert masker.export_onnx(tmp_path / "top.onnx") == tmp_path / "top.onnx"
    agree(tmp_path / "top.onnx", masker, images)
    agree(tmp_path / "top.onnx", masker, images[:1])
    assert [file.name for file in tmp_path.iterdir()] == ["top.onnx"], "nothing left behind"
    assert ways == [True], "by torch.export"


@pytest.mark.parametrize(
    "name",
    [
        "squeezed",
        "flattened",
        pytest.param("convolutional", marks=pytest.mark.slow),
        pytest.param("channels-last", marks=pytest.mark.slow),
    ],
)
def test_feature_maps_of_every_layout(name, net, photos, tmp_path, traced):
    black_box, images = net(name), photos(3)
    masker = bound(black_box, images)
    black_box.model.train()
    fast = torch.backends.mha.get_fastpath_enabled()
    with untouched("export_onnx", black_box.model), untouched("export_onnx", masker.network):
        masker.export_onnx(tmp_path / "masker.onnx", labels=True)
    assert torch.backends.mha.get_fastpath_enabled() == fast
    agree(tmp_path / "masker.onnx", masker, images, torch.tensor([2, 0, 4]))
    assert traced == [True, False]


@pytest.mark.slow
def test_a_model_of_timm(tmp_path, traced):
    black_box = trained("test_resnet", 64)
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    masker = bound(black_box, images)
    masker.export_onnx(str(tmp_path / "masker.onnx"), labels=True)
    agree(tmp_path / "masker.onnx", masker, images, torch.tensor([7, 0, 7]))


# by torch.export, whose time grows with the number of layers
LARGER = {
    "test_vit": {"img_size": 64},
    "torchvision:mobilenet_v2": {},
    "torchvision:squeezenet1_0": {},
    "swin_tiny_patch4_window7_224": {"img_size": 64, "embed_dim": 48, "depths": (2, 2)},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGER)
def test_larger_models(name, tmp_path):
    black_box = trained(name, 64, **LARGER[name])
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    masker = bound(black_box, images)
    masker.export_onnx(tmp_path / "masker.onnx")
    agree(tmp_path / "masker.onnx", masker, images)


def test_a_standalone_encoder_and_the_confidence(net, photos, tmp_path, traced):
    images = photos(3)
    masker = bound(net("squeezed"), images, encoder="own", confidence=1.5)
    masker.export_onnx(tmp_path / "own.onnx")
    agree(tmp_path / "own.onnx", masker, images)


@pytest.mark.slow
def test_the_pretrained_encoder(net, photos, tmp_path, traced):
    pytest.importorskip("timm")
    images = photos(3)
    masker = bound(
        net("convolutional"),
        images,
        encoder=PretrainedEncoder("timm:test_resnet,pretrained=false", (32, 32)),
    )
    masker.export_onnx(tmp_path / "paper.onnx")
    agree(tmp_path / "paper.onnx", masker, images)


@pytest.mark.slow
def test_another_image_size_and_a_half_precision_model(net, photos, tmp_path, traced):
    black_box = net("convolutional")
    masker = bound(black_box, photos(2))
    masker.export_onnx(tmp_path / "larger.onnx", size=(48, 40))
    images = photos(2, side=48)[..., :40].contiguous()
    agree(tmp_path / "larger.onnx", masker, images)
    half = net("convolutional")
    half.model.bfloat16()
    RealTimeMasker(network=masker.network).bind(half).export_onnx(tmp_path / "half.onnx")
    logits, mask = run(tmp_path / "half.onnx", photos(2))
    assert logits.dtype == mask.dtype == torch.float32
    assert (logits - black_box(photos(2))).abs().max() < 0.2


class Returns(nn.Module):
    def __init__(self, inner, form):
        super().__init__()
        self.inner, self.form = inner, form

    def forward(self, x):
        logits = self.inner(x)
        return {
            "tuple": lambda: (logits, logits.sum()),
            "dict": lambda: {"extra": logits[:, :2], "logits": logits},
            "probabilities": lambda: logits.softmax(1),
            "sigmoid": lambda: logits[:, :1],
            "one probability": lambda: logits[:, 0].sigmoid(),
        }[self.form]()


@pytest.mark.parametrize(
    ("form", "output"),
    [
        ("tuple", "softmax"),
        pytest.param("dict", "score", marks=pytest.mark.slow),
        pytest.param("probabilities", "softmax", marks=pytest.mark.slow),
        pytest.param("probabilities", "sigmoid", marks=pytest.mark.slow),
        pytest.param("sigmoid", "softmax", marks=pytest.mark.slow),
        ("one probability", "sigmoid"),
    ],
)
def test_models_with_every_form_of_output(form, output, net, photos, tmp_path, traced):
    plain, images = net("convolutional"), photos(3)
    black_box = TorchBlackBox(
        Returns(plain.model, form).eval(),
        mean=plain.mean,
        std=plain.std,
        size=plain.size,
        output=output,
        probabilities="prob" in form,
    )
    masker = bound(black_box, images)
    masker.export_onnx(tmp_path / "masker.onnx")
    agree(tmp_path / "masker.onnx", masker, images)


def test_black_boxes_that_cannot_be_exported_are_refused(net, photos, tmp_path):
    planted = PlantedEvidence()
    images, _ = planted.examples(2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="does not expose a torch module"):
        bound(planted, images).export_onnx(tmp_path / "x.onnx", size=16)
    unknown = TorchBlackBox(net("convolutional").model)
    with pytest.raises(InputError, match="size"):
        bound(unknown, photos(2)).export_onnx(tmp_path / "x.onnx")
    with pytest.raises(InputError, match="give size="):
        bound(unknown, photos(2)).export_onnx(tmp_path / "x.onnx", size=0)
    with pytest.raises(InputError, match="not bound"):
        RealTimeMasker(network=masking_network(unknown, photos(2))).export_onnx(tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


class Inverting(BlackBox):
    differentiable = True

    def __init__(self, inner):
        self.module, self.num_classes, self.inner = inner.module, inner.num_classes, inner

    def logits(self, images):
        return self.inner(1 - images)


def test_a_black_box_that_does_more_than_normalize_is_refused(net, photos, tmp_path):
    masker = bound(Inverting(net("convolutional")), photos(2))
    with pytest.raises(InputError, match="Inverting does more than normalize"):
        masker.export_onnx(tmp_path / "x.onnx", size=32)


def test_a_model_that_fixes_its_batch_size_is_refused_with_the_cause(net, photos, tmp_path, traced):
    masker = bound(net("class-token"), photos(2))  # its forward has len(x)
    with pytest.raises(
        SaliencyKitError, match=r"Tokens with its masker cannot be written as ONNX.* x\.shape\[0\]"
    ):
        masker.export_onnx(tmp_path / "x.onnx")


def test_without_onnx_the_error_says_what_to_install(net, photos, tmp_path, monkeypatch):
    masker = bound(net("convolutional"), photos(2))
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'saliencykit\[onnx\]'"):
        masker.export_onnx(tmp_path / "x.onnx")


def test_a_graph_with_other_outputs_does_not_replace_the_file(net, photos, tmp_path, monkeypatch):
    masker = bound(net("convolutional"), photos(2))
    write = onnx_export._write

    def wrong(graph, inputs, path, dynamo):
        with torch.no_grad():
            graph.mean += 0.1
        write(graph, inputs, path, False)

    monkeypatch.setattr(onnx_export, "_write", wrong)
    (tmp_path / "masker.onnx").write_text("an older one")
    with pytest.raises(
        SaliencyKitError,
        match="Convolutional with its masker cannot be written as ONNX: the graph's logits",
    ):
        masker.export_onnx(tmp_path / "masker.onnx")
    assert (tmp_path / "masker.onnx").read_text() == "an older one"
    assert len(list(tmp_path.iterdir())) == 1
