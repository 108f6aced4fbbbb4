"""Kinds of model that people have: each is explained rightly, or refused with the line to write.

Most are one planted network in another wrapping: class k reacts to its own texture and to
nothing else, so the place of a good mask is known. Models of other libraries have random weights:
there the explained logits must be the model's own. Libraries that are not installed are stood in
for by objects of the same interface.
"""

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saliencykit import BlackBox, FunctionBlackBox, TorchBlackBox
from saliencykit.black_boxes.contrast import Contrast
from saliencykit.black_boxes.score_targets import DetectionScore, SegmentationClass, Similarity
from saliencykit.black_boxes.transformers import transformers_black_box
from saliencykit.black_boxes.zero_shot import zero_shot_black_box
from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly

LABEL, CLASSES = 2, 3
PLACE = (slice(8, 16), slice(16, 24))  # rows and columns of the evidence in an image of 32x32
NAMES = {0: "cat", 1: "dog", 2: "cow", 3: "owl", 4: "bee"}
PLANTED = {key: NAMES[key] for key in range(CLASSES)}


@dataclass(frozen=True)
class Case:
    """A model with an image: what must be seen, or words of the refusal."""

    model: Any
    image: Any = None
    label: Any = LABEL
    planted: bool = True
    refused: str = ""
    warns: str = ""
    logits: Callable[[], Tensor] | None = None
    options: dict[str, Any] = field(default_factory=dict)


def textures() -> Tensor:
    """(3, 4, 4) of +-1: checks, rows and columns, too fine to be drawn by a mask."""
    steps, ones = torch.tensor([1.0, -1, 1, -1]), torch.ones(4)
    pairs = ((steps, steps), (steps, ones), (ones, steps))
    return torch.stack([torch.outer(down, right) for down, right in pairs])


class Net(nn.Module):
    """The planted network: texture detectors, ReLU, pooling, a linear layer."""

    def __init__(self, channels: int = 3, classes: int = CLASSES, gain: float = 60.0) -> None:
        super().__init__()
        conv = nn.Conv2d(channels, CLASSES, 4, stride=4)
        conv.weight.data = (textures()[:, None] / 16 / channels).repeat(1, channels, 1, 1)
        conv.bias.data.fill_(-0.05)
        self.features = nn.Sequential(conv, nn.ReLU())
        self.pool, self.flat = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.head = nn.Linear(CLASSES, classes)
        self.head.weight.data = gain * torch.eye(CLASSES)[-classes:]  # the label's is the last
        self.head.bias.data.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flat(self.pool(self.features(x))))


class Returning(nn.Module):
    """The planted network with its output in another form."""

    def __init__(self, form: Callable[[Tensor], Any], **options: Any) -> None:
        super().__init__()
        self.net, self.form = Net(**options), form

    def forward(self, x: Tensor) -> Any:
        return self.form(self.net(x))


class Maps(nn.Module):
    """A segmentation network: one map per class."""

    def __init__(self, form: Callable[[Tensor], Any] = lambda maps: maps) -> None:
        super().__init__()
        self.net, self.form = Net(), form

    def forward(self, x: Tensor) -> Any:
        return self.form(nn.functional.interpolate(self.net.features(x), size=x.shape[2:]))


class WithAge(nn.Module):
    """A network of an image and a number."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, x: Tensor, age: Tensor) -> Tensor:
        return self.net(x) + 0 * age


class NoGrad(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Volumes(nn.Module):
    """A network of volumes (B, 3, D, H, W): the planted one on their mean slice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.net = nn.Conv3d(3, 3, 1, bias=False), Net()
        self.first.weight.data = torch.eye(3)[:, :, None, None, None].clone()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.first(x).mean(2))


class Clips(nn.Module):
    """A network of clips (B, T, 3, H, W): the planted one on their mean frame."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.mean(1))


def image(channels: int = 3) -> Tensor:
    """(1, C, 32, 32), zero but for the texture of the label's class at its place."""
    x = torch.zeros(1, channels, 32, 32)
    x[..., PLACE[0], PLACE[1]] = textures()[LABEL].tile(2, 2)
    return x


def raw_array(channels: int = 3) -> "np.ndarray[Any, Any]":
    """The same image as raw pixels (H, W, C) around mid-gray."""
    return (image(channels)[0].permute(1, 2, 0) * 0.5 + 0.5).numpy()


def raw_box(channels: int = 3) -> TorchBlackBox:
    half = (0.5,) * channels
    return TorchBlackBox(Net(channels), mean=half, std=half, size=32)


def random_net(module: nn.Module) -> nn.Module:
    """Weights large enough for logits that differ from image to image."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter.data, std=0.15, generator=generator)
    return module.eval()


def _hf(kind: str, **options: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = {
        "ViT": {**sizes, "intermediate_size": 32, "image_size": 32, "patch_size": 8},
        "Dinov2": {**sizes, "image_size": 28, "patch_size": 7},
        "Swin": {
            "embed_dim": 8,
            "depths": [1, 1],
            "num_heads": [1, 2],
            "window_size": 4,
            "image_size": 32,
            "patch_size": 4,
        },
        "Beit": {**sizes, "intermediate_size": 32, "image_size": 32, "patch_size": 8},
        "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
        "ConvNext": {
            "hidden_sizes": [8, 16],
            "depths": [1, 1],
            "num_stages": 2,
            "image_size": 32,
            "patch_size": 2,
        },
    }[kind] | {"id2label": NAMES, "label2id": {name: key for key, name in NAMES.items()}, **options}
    model = getattr(transformers, f"{kind}ForImageClassification")
    return random_net(model(getattr(transformers, f"{kind}Config")(**config)))


def _random(model: Any, size: int = 32, **options: Any) -> Case:
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    return Case(model, x, planted=False, **options)


def _hf_case(kind: str, **options: Any) -> Case:
    model = _hf(kind, **options)
    case = _random(model, 28 if kind == "Dinov2" else 32, label=NAMES[LABEL])
    return _with_logits(case, lambda: model(case.image).logits)


def _with_logits(case: Case, logits: Callable[[], Tensor]) -> Case:
    return Case(**{**case.__dict__, "logits": logits})


def _pipeline() -> Case:
    transformers = pytest.importorskip("transformers")
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
    pipe = transformers.pipeline(
        "image-classification", model=_hf("ViT"), image_processor=processor
    )
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    return Case(pipe, pixels, NAMES[LABEL], planted=False)


def _with_processor() -> Case:
    transformers = pytest.importorskip("transformers")
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
    model = _hf("ViT")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    inputs = processor(pixels, return_tensors="pt")["pixel_values"]
    black_box = transformers_black_box(model, processor)
    case = Case(black_box, pixels, NAMES[LABEL], planted=False)
    return _with_logits(case, lambda: model(inputs).logits)


def _clip(kind: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes["intermediate_size"] = 32
    text = {**sizes, "vocab_size": 99, "max_position_embeddings": 8, "projection_size": 16}
    text |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = getattr(transformers, f"{kind}Config")(
        text_config=text, vision_config={**sizes, "image_size": 32, "patch_size": 8}
    )
    return random_net(getattr(transformers, f"{kind}Model")(config))


def _tokens(text: list[str], **_: Any) -> dict[str, Tensor]:
    """A tokenizer: every letter a number."""
    numbers = [[3 + ord(letter) % 90 for letter in each[-8:].rjust(8)] for each in text]
    return {"input_ids": torch.tensor(numbers)}


def _zero_shot(kind: str) -> Case:
    black_box = zero_shot_black_box(_clip(kind), list(NAMES.values()), _tokens)
    return _random(black_box, label="cow")


def _open_clip() -> Case:
    open_clip = pytest.importorskip("open_clip")
    vision = {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8}
    text = {"context_length": 8, "vocab_size": 99, "width": 16, "heads": 2, "layers": 1}
    model = random_net(open_clip.CLIP(embed_dim=12, vision_cfg=vision, text_cfg=text))

    def tokenizer(texts: list[str]) -> Tensor:
        return _tokens(texts)["input_ids"]

    black_box = zero_shot_black_box(model, list(NAMES.values()), tokenizer)
    return _random(black_box, label="cow")


def _lightning() -> Case:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = Net()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

        def training_step(self, batch: Any, index: int) -> Tensor:
            return self(batch[0]).sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    return Case(Module())


class LikeFastai:
    """The interface of a fastai Learner, which is callable and not a module."""

    def __init__(self, loss: str = "CrossEntropyLossFlat") -> None:
        normalize = SimpleNamespace(
            mean=torch.full((1, 3, 1, 1), 0.5), std=torch.full((1, 3, 1, 1), 0.5)
        )
        self.model, self.loss_func = Net(), type(loss, (), {})()
        self.dls = SimpleNamespace(
            vocab=list(PLANTED.values()),
            after_item=SimpleNamespace(fs=[SimpleNamespace(size=(32, 32))]),
            after_batch=SimpleNamespace(fs=[SimpleNamespace(), normalize]),
        )

    def __call__(self, event: str) -> None:
        raise AssertionError("a learner is called with the names of events")


class LikeYolo(nn.Module):
    """The interface of ultralytics' YOLO, a module whose forward pass predicts from files."""

    def __init__(self, task: str = "classify", network: nn.Module | None = None) -> None:
        super().__init__()
        self.task, self.predictor = task, None
        self.model = network or Returning(lambda z: (z.softmax(1), z))
        self.model.names, self.model.args = PLANTED, {"task": task, "imgsz": 32}

    def forward(self, source: Any) -> Any:
        raise AssertionError("a YOLO object runs its own pipeline")


def _yolo_detector() -> LikeYolo:
    """Raw detections (B, 4 + K, N) and feature maps, as the network of ultralytics returns them."""

    def detections(z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return torch.cat([z[:, :1].expand(-1, 4), z], 1)[:, :, None].repeat(1, 1, 6), {}

    return LikeYolo("detect", Returning(detections))


class LikeKeras:
    """The interface of a Keras model."""

    def __call__(self, x: Any) -> Any:
        raise AssertionError

    def predict_on_batch(self, x: Any) -> Any:
        raise AssertionError

    fit = predict = predict_on_batch


class LikeEstimator:
    """The interface of an estimator of scikit-learn's kind, of a library without a plugin."""

    def fit(self, x: Any, y: Any) -> None:
        raise AssertionError

    def predict(self, x: Any) -> Any:
        raise AssertionError


class OwnBlackBox(BlackBox):
    """A black box that a user has written."""

    num_classes, differentiable = CLASSES, True

    def __init__(self) -> None:
        self.net = Net()

    def logits(self, images: Tensor) -> Tensor:
        return self.net((images - 0.5) / 0.5)


def _numpy_function(x: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    with torch.no_grad():
        values = Net()((torch.from_numpy(x).permute(0, 3, 1, 2) - 0.5) / 0.5)
        return values.softmax(1).numpy()


def _numpy_logits(x: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    with torch.no_grad():
        return Net()((torch.from_numpy(x).permute(0, 3, 1, 2) - 0.5) / 0.5).numpy()


def _like_detr(z: Tensor) -> SimpleNamespace:
    """One query, whose box is always the same, and the column "no object"."""
    boxes = torch.tensor([0.5, 0.5, 0.6, 0.6]).expand(len(z), 1, 4)
    return SimpleNamespace(pred_boxes=boxes, logits=torch.cat([z, 0 * z[:, :1]], 1)[:, None])


def _with_range(case: Case) -> Case:
    return Case(case.model, case.image, options={"pixel_range": (0, 4095)})


def _torchvision_image() -> Case:
    from torchvision import models

    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    model = models.shufflenet_v2_x0_5(num_classes=CLASSES).eval()
    return Case(model, pixels, planted=False, warns="does not say how images are normalized")


def _exported(batch: int, dynamic: bool = False) -> Any:
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    example = image().repeat(batch, 1, 1, 1)
    return torch.export.export(Net().eval(), (example,), dynamic_shapes=shapes)


def _static_int8() -> nn.Module:
    from torch.ao import quantization

    net = nn.Sequential(quantization.QuantStub(), Net(), quantization.DeQuantStub()).eval()
    net.qconfig = quantization.get_default_qconfig("fbgemm")
    prepared = quantization.prepare(net)
    for _ in range(2):
        prepared(image())
    return quantization.convert(prepared)


def _dynamic_int8() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(Net(), {nn.Linear}, dtype=torch.qint8)


def _lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _meta() -> nn.Module:
    with torch.device("meta"):
        return Net()


def _with_norm() -> nn.Module:
    net = Net()
    norm = nn.BatchNorm2d(CLASSES).eval()
    norm.running_var.fill_(0.25)
    net.features = nn.Sequential(net.features[0], norm, nn.ReLU(inplace=True))
    return net.eval()


def _hooked() -> nn.Module:
    net = Net()
    net.features.register_forward_hook(lambda module, inputs, output: output * 1)
    return net


def _frozen() -> nn.Module:
    return Net().requires_grad_(False)


def _torchvision(new_head: bool) -> Case:
    from torchvision import models

    model = models.shufflenet_v2_x0_5(num_classes=CLASSES if new_head else 1000)
    return _random(model.eval())


def _timm() -> Case:
    timm = pytest.importorskip("timm")
    return _random(timm.create_model("test_resnet", num_classes=CLASSES).eval())


Dotted = namedtuple("Dotted", ["logits", "hidden"])
Plain = namedtuple("Plain", ["scores", "hidden"])


@dataclass
class Output:
    loss: None
    logits: Tensor


def _channels(count: int) -> Callable[[], Case]:
    return lambda: Case(Net(count), image(count))


def _array(channels: int, dtype: str) -> Callable[[], Case]:
    def case() -> Case:
        values = raw_array(channels)
        if dtype == "uint8":
            values = np.rint(values * 255).astype(np.uint8)
        if dtype == "uint12":
            values = np.rint(values * 4095).astype(np.uint16)
        return Case(raw_box(channels), values, warns="4095 is assumed" if dtype == "uint12" else "")

    return case


def _sigmoid_black_box(**options: Any) -> TorchBlackBox:
    return TorchBlackBox(output="sigmoid", **options)


_FIVE = image()[:, :, None].repeat(1, 1, 4, 1, 1)

KINDS: dict[str, Callable[[], Case]] = {
    # wrappings of a torch module
    "plain": lambda: Case(Net()),
    "in training mode": lambda: Case(Net().train()),
    "frozen weights": lambda: Case(_frozen()),
    "float64": lambda: Case(Net().double(), image().double()),
    "bfloat16": lambda: Case(Net().bfloat16()),
    "compiled": lambda: Case(torch.compile(Net(), backend="eager")),
    "DataParallel": lambda: Case(nn.DataParallel(Net())),
    "scripted": lambda: Case(torch.jit.script(Net().eval())),
    "traced": lambda: Case(torch.jit.trace(Net().eval(), image())),
    "fx graph": lambda: Case(torch.fx.symbolic_trace(Net())),
    "exported for one image": lambda: Case(_exported(1)),
    "exported for any batch": lambda: Case(_exported(2, dynamic=True)),
    "exported for four images": lambda: Case(
        _exported(4), refused="batches of exactly 4 images.*dynamic_shapes"
    ),
    "batch norm and in-place layers": lambda: Case(_with_norm()),
    "hooks of its own": lambda: Case(_hooked()),
    "forward without gradients": lambda: Case(NoGrad()),
    "int8 dynamic": lambda: Case(_dynamic_int8()),
    "int8 static": lambda: Case(_static_int8()),
    "lazy": lambda: Case(_lazy(), refused=r"has no shape yet.*model\(images\)"),
    "meta": lambda: Case(_meta(), refused="on the device meta.*load_state_dict"),
    "two inputs, a tuple": lambda: Case(
        TorchBlackBox(WithAge(), forward_args=(torch.tensor([[40.0]]),))
    ),
    "two inputs, a dict": lambda: Case(
        TorchBlackBox(WithAge(), forward_args={"age": torch.tensor([[40.0]])})
    ),
    "two inputs, one given": lambda: Case(WithAge(), refused="forward_args="),
    "lightning": _lightning,
    # forms of output
    "dict of logits": lambda: Case(Returning(lambda z: {"logits": z, "hidden": z[:, :1]})),
    "dict of out": lambda: Case(Returning(lambda z: OrderedDict(out=z, aux=z * 0))),
    "tuple": lambda: Case(Returning(lambda z: (z, z[:, :1]))),
    "list": lambda: Case(Returning(lambda z: [z])),
    "dataclass": lambda: Case(Returning(lambda z: Output(None, z))),
    "namedtuple with logits": lambda: Case(Returning(lambda z: Dotted(z, z * 0))),
    "namedtuple": lambda: Case(Returning(lambda z: Plain(z, z * 0))),
    "object": lambda: Case(Returning(lambda z: SimpleNamespace(logits=z))),
    "maps of one pixel": lambda: Case(Returning(lambda z: z[:, :, None, None])),
    "log-probabilities": lambda: Case(Returning(lambda z: z.log_softmax(1))),
    "probabilities, said": lambda: Case(
        TorchBlackBox(Returning(lambda z: z.softmax(1)), probabilities=True)
    ),
    "probabilities, not said": lambda: Case(
        Returning(lambda z: z.softmax(1)), warns="probabilities=True"
    ),
    "one logit": lambda: Case(Net(classes=1), label=1),
    "one logit, squeezed": lambda: Case(Returning(lambda z: z[:, 0], classes=1), label=1),
    "one probability": lambda: Case(
        TorchBlackBox(Returning(lambda z: z.sigmoid(), classes=1), probabilities=True), label=1
    ),
    "multi-label": lambda: Case(_sigmoid_black_box(model=Net())),
    "multi-label probabilities": lambda: Case(
        _sigmoid_black_box(model=Returning(lambda z: z.sigmoid()), probabilities=True)
    ),
    "regression": lambda: Case(TorchBlackBox(Net(classes=1), output="score"), label=0),
    "several scores": lambda: Case(TorchBlackBox(Net(), output="score")),
    "segmentation": lambda: Case(Maps(), refused=r"\(1, 3, 32, 32\).*SegmentationClass"),
    "segmentation, dict of out": lambda: Case(
        Maps(lambda maps: OrderedDict(out=maps)), refused="SegmentationClass"
    ),
    "detection of torchvision": lambda: Case(
        Returning(lambda z: [{"boxes": z, "labels": z, "scores": z}]), refused="DetectionScore"
    ),
    "detection, one table": lambda: Case(
        Returning(lambda z: z[:, None].repeat(1, 7, 1)), refused=r"\(1, 7, 3\).*target=function"
    ),
    "reconstruction": lambda: Case(
        Returning(lambda z: {"recon": z, "mu": z, "logvar": z}), refused="returned dict with.*recon"
    ),
    "predicted class": lambda: Case(
        Returning(lambda z: z.argmax(1, keepdim=True).repeat(1, 2)), refused="not the predicted"
    ),
    "sigmoids, functional": lambda: Case(
        Returning(lambda z: z.sigmoid()),
        planted=False,
        warns="output='sigmoid', probabilities=True",
    ),
    "not finite": lambda: Case(Returning(lambda z: z / 0), refused="NaN or infinite logits"),
    "nothing returned": lambda: Case(Returning(lambda z: None), refused="returned NoneType"),
    # inputs
    "one channel": _channels(1),
    "two channels": _channels(2),
    "four channels": _channels(4),
    "five channels": _channels(5),
    "thirteen channels": _channels(13),
    "array, gray": _array(1, "float"),
    "array, RGB of 8 bits": _array(3, "uint8"),
    "array, 12 bits": _array(1, "uint12"),
    "array, four channels": _array(4, "float"),
    "array, thirteen channels of 8 bits": _array(13, "uint8"),
    "array, thirteen channels of 12 bits": _array(13, "uint12"),
    "array, 12 bits, the range said": lambda: _with_range(_array(1, "uint12")()),
    "array, a window of signed values": lambda: Case(
        raw_box(1),
        np.rint(raw_array(1) * 1400 - 1000).astype(np.int16),
        options={"pixel_range": (-1000, 400)},
    ),
    "array, signed values": lambda: Case(
        raw_box(1), np.rint(raw_array(1) * 1400 - 1000).astype(np.int16), refused="pixel_range="
    ),
    "array, statistics unknown": lambda: Case(
        Net(), np.rint(raw_array() * 255).astype(np.uint8), refused=r"TorchBlackBox\(model, mean="
    ),
    "volume": lambda: Case(Volumes(), _FIVE, refused=r"nn.Unflatten\(1, \(3, 4\)\)"),
    "clip": lambda: Case(
        Clips(), _FIVE.transpose(1, 2), refused=r"nn.Unflatten\(1, \(4, 3\)\).*explain_video"
    ),
    "clip, frames as channels": lambda: Case(
        nn.Sequential(nn.Unflatten(1, (4, 3)), Clips()), _FIVE.transpose(1, 2).flatten(1, 2)
    ),
    "volume of one slice too few": lambda: Case(
        nn.Sequential(nn.Conv3d(1, 2, 3), nn.Flatten(), nn.Linear(7, 2)), refused="nn.Unflatten"
    ),
    "volume, slices as channels": lambda: Case(
        nn.Sequential(nn.Unflatten(1, (3, 4)), Volumes()), _FIVE.flatten(1, 2)
    ),
    # libraries
    "timm": _timm,
    "torchvision": lambda: _torchvision(False),
    "torchvision, new head": lambda: _torchvision(True),
    "torchvision, an image": lambda: _torchvision_image(),
    "transformers ViT": lambda: _hf_case("ViT"),
    "transformers DINOv2": lambda: _hf_case("Dinov2"),
    "transformers Swin": lambda: _hf_case("Swin"),
    "transformers BEiT": lambda: _hf_case("Beit"),
    "transformers ResNet": lambda: _hf_case("ResNet"),
    "transformers ConvNeXt": lambda: _hf_case("ConvNext"),
    "transformers multi-label": lambda: _hf_case("ViT", problem_type="multi_label_classification"),
    "transformers regression": lambda: _hf_case("ViT", problem_type="regression"),
    "transformers with a processor": _with_processor,
    "transformers pipeline": _pipeline,
    "CLIP of transformers": lambda: _zero_shot("CLIP"),
    "SigLIP of transformers": lambda: _zero_shot("Siglip"),
    "CLIP without texts": lambda: Case(_clip("CLIP"), refused="zero_shot_black_box"),
    "open_clip": _open_clip,
    "embeddings as classes": lambda: Case(
        zero_shot_black_box(
            Net().features.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten()),
            list(PLANTED.values()),
            embeddings=torch.eye(CLASSES),
        ),
        label="cow",
        planted=False,  # the length of an embedding does not count: any trace of evidence is enough
    ),
    "fastai": lambda: Case(LikeFastai(), np.rint(raw_array() * 255).astype(np.uint8), "cow"),
    "fastai, labels on their own": lambda: Case(
        LikeFastai("BCEWithLogitsLossFlat"), np.rint(raw_array() * 255).astype(np.uint8), "cow"
    ),
    "YOLO classify": lambda: Case(
        LikeYolo(), np.rint(raw_array() * 255).astype(np.uint8), label="cow"
    ),
    "YOLO detect": lambda: Case(_yolo_detector(), refused=r"answer\[0\]\[:, 4 \+ label\]"),
    "YOLO detect, a target": lambda: Case(
        _yolo_detector(),
        label=0,
        options={"target": lambda answer: answer[0][:, 4 + LABEL].amax(1), "inputs": "normalized"},
    ),
    "segmentation, a target": lambda: Case(
        Maps(), label=0, options={"target": SegmentationClass(LABEL)}
    ),
    "detection of DETR, a target": lambda: Case(
        Returning(_like_detr),
        label=0,
        options={"target": DetectionScore((0.2, 0.2, 0.8, 0.8), LABEL), "inputs": "normalized"},
    ),
    "embedding, a target": lambda: Case(
        Returning(lambda z: {"image_embeds": torch.cat([z, 1 + 0 * z[:, :1]], 1)}),
        label=0,
        options={"target": Similarity(torch.eye(CLASSES + 1)[LABEL])},
    ),
    "two classes, a target": lambda: Case(Net(), options={"target": Contrast(against=0)}),
    "a target that raises": lambda: Case(
        Net(), label=0, options={"target": lambda answer: answer["logits"]}, refused="target"
    ),
    "Keras": lambda: Case(LikeKeras(), refused="FunctionBlackBox.*predict_on_batch"),
    "estimator": lambda: Case(LikeEstimator(), refused="saliencykit-sklearn"),
    # no torch module
    "numpy function": lambda: Case(_numpy_function, raw_array()),
    "numpy function, 13 bands": lambda: Case(
        FunctionBlackBox(lambda x: x[:, 8:16, 16:24].std((1, 2)), probabilities=False, channels=13),
        raw_array(13),
        planted=False,
    ),
    "function, yes minus no": lambda: Case(
        FunctionBlackBox(
            lambda x: _numpy_logits(x)[:, [LABEL]], output="sigmoid", probabilities=False
        ),
        raw_array(),
        1,
    ),
    "query-only": lambda: Case(QueryOnly(PlantedEvidence()), torch.rand(1, 3, 32, 32), 1, False),
    "own black box": lambda: Case(OwnBlackBox(), raw_array(), refused=r"prepare\(image\)"),
    "own black box, tensor": lambda: Case(OwnBlackBox(), image() * 0.5 + 0.5),
    "class": lambda: Case(Net, refused=r"explain\(Net\(\.\.\.\), image\)"),
    "state dict": lambda: Case(Net().state_dict(), refused="is not a classifier"),
    "bare name": lambda: Case("resnet18", refused="Write '(timm|torchvision):resnet18'"),
    "file of weights": lambda: Case("net.pt", refused="safetensors"),
}
