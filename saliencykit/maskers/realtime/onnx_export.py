"""Black box and masker as one ONNX graph: images in, logits and masks out."""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast, final

import torch
from torch import Generator, Tensor, nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import first_line, name_of
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.core.map_placement import resize_maps
from saliencykit.core.output import both_answers
from saliencykit.core.types import Images, Labels, Logits, Mask
from saliencykit.maskers.realtime.decoder import mask_ratio
from saliencykit.maskers.realtime.encoder import Features, TrunkEncoder
from saliencykit.maskers.realtime.masking_network import MaskingNetwork
from saliencykit.maskers.realtime.pretrained_encoder import PretrainedEncoder
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.layer_activations import ActivationRecorder
from saliencykit.networks.module_layers import get_layer, module_of

_OPSET = 18
# relative to the range: differences of a folded copy, another runtime, and half precision
_TOLERANCE = 1e-3
_TOLERANCE_HALF = 5e-2


def _log_odds(p: Tensor) -> Tensor:
    return p.clamp_min(1e-12).log() - (1 - p).clamp_min(1e-12).log()


# from a model's output to logits: logits, probabilities of classes and of labels, one logit, and
# one probability
_READINGS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda x: x,
    lambda x: x.clamp_min(1e-12).log(),
    _log_odds,
    lambda x: both_answers(x, "softmax"),
    lambda x: both_answers(x, "sigmoid"),
    lambda x: both_answers(_log_odds(x), "softmax"),
    lambda x: both_answers(_log_odds(x), "sigmoid"),
)


def export_onnx(
    path: Path,
    black_box: BlackBox,
    network: MaskingNetwork,
    confidence: float = 0.0,
    size: int | tuple[int, int] | None = None,
    *,
    labels: bool = False,
) -> Path:
    """Write a black box and a masking network as one ONNX file.

    The graph takes `images` (B, C, H, W), raw pixels in [0, 1], normalizes them as the black box
    does, and returns `logits` (B, K) and `mask` (B, 1, H, W) in [0, 1]; 1 keeps a pixel. B is
    dynamic, H and W are fixed. Everything is float32, whatever the black box's precision. Black box
    and network are copied, and stay unchanged. Where onnxruntime is installed, the file is run and
    compared before it gets its name, also with a batch size that the exporter did not see.

    Args:
        path: The file; an existing one is replaced atomically.
        black_box: With a torch module inside that takes raw pixels or `(pixels - mean) / std`.
        network: For inference, as `RealTimeMasker.inference_network` returns it.
        confidence: See `RealTimeMasker`.
        size: Side or (height, width) of the images. None: the black box's own.
        labels: Does the graph take a second input `labels` (B,) int64, the class of each mask?
            False: the top class.

    Returns:
        The path.

    Raises:
        InputError: onnx is not installed, or the black box is not such a black box.
        SaliencyKitError: The model has an operation that ONNX lacks, or the graph's outputs differ
            from the black box's.
    """
    if find_spec("onnx") is None or find_spec("onnxscript") is None:
        raise InputError("export_onnx needs onnx and onnxscript; pip install 'saliencykit[onnx]'.")
    images = _noise_images(black_box, size)
    graph = JointModule(black_box, network, confidence, images)
    classes = torch.arange(len(images), device="cpu") % graph.num_classes
    inputs = (images, classes) if labels else (images,)
    expected, errors = graph(*inputs), []
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # by torch.export; by tracing where the model's control flow forbids that
        for dynamo in (True, False):
            try:
                _write(graph, tuple(value[:2] for value in inputs), temporary, dynamo)
                _compare(temporary, inputs, expected)
            except Exception as error:
                errors.append(first_line(error))
            else:
                temporary.replace(path)
                return path
    finally:
        temporary.unlink(missing_ok=True)
    raise SaliencyKitError(
        f"{name_of(module_of(black_box))} with its masker cannot be written as ONNX: "
        f"{'; '.join(errors)}. A common cause is len(x) in a model's forward, which fixes the "
        "batch size: write x.shape[0]."
    )


@final
class JointModule(nn.Module):
    """Copies of a black box and a masking network as one plain module on the CPU, to be exported or
    compiled.

    Args:
        black_box: With a torch module inside.
        network: For inference, as `RealTimeMasker.inference_network` returns it.
        confidence: See `RealTimeMasker`.
        images: (3, C, H, W), on which the copies are tried; H and W are fixed from then on.

    Raises:
        InputError: The black box does more than normalize images and call its module.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, black_box: BlackBox, network: MaskingNetwork, confidence: float, images: Images
    ) -> None:
        super().__init__()
        for name, default in (("mean", 0.0), ("std", 1.0)):
            values = getattr(black_box, name, None) or (default,)
            self.register_buffer(
                name,
                torch.tensor(tuple(values), dtype=torch.float32, device="cpu").view(1, -1, 1, 1),
            )
        with torch.no_grad():
            there = images.to(black_box.device)
            expected = black_box(there).float().cpu()
            self.model = _plain(module_of(black_box.optimized_for(there)))
            self.network: MaskingNetwork = _plain(network)
            encoder, read = self.network.encoder, self.model
            self.feature_maps: tuple[FeatureMap, ...] = ()
            self.second: SecondModule | None = None
            if isinstance(encoder, PretrainedEncoder):
                self.second = SecondModule(encoder)
                read = self.second.model
            if isinstance(encoder, TrunkEncoder | PretrainedEncoder):
                self.feature_maps = encoder.feature_maps
            self.recorder = ActivationRecorder()
            names = dict.fromkeys(feature_map.name for feature_map in self.feature_maps)
            for name in names:
                get_layer(read, name).register_forward_hook(self.recorder.hook(name))
            outputs = _tensors(self.model((images - self.mean) / self.std))
        self.confidence, self.num_classes = confidence, expected.shape[1]
        dtype = next((t.dtype for t in module_of(black_box).parameters()), torch.float32)
        half = dtype not in (torch.float32, torch.float64)
        matches = [
            (index, reading)
            for index, output in enumerate(outputs)
            if output.ndim and len(output) == len(images)
            for reading, read in enumerate(_READINGS)
            if _close(read(output.reshape(len(output), -1)), expected, half)
        ]
        if not matches:
            raise InputError(
                f"{name_of(black_box)} does more than normalize images and call its module, so it "
                "cannot be exported; export_onnx takes a TorchBlackBox(model, mean=..., std=..., "
                "size=...)."
            )
        self.output_index, self.reading = matches[0]
        self.eval()  # as a whole: an exporter restores the mode that it saw

    def forward(self, pixels: Images, labels: Labels | None = None) -> tuple[Logits, Mask]:
        """Logits (B, K), and the masks (B, 1, H, W) of the labels or the top classes."""
        self.recorder.outputs.clear()
        # ints: a tracer would make tensors of them
        size = (int(pixels.shape[2]), int(pixels.shape[3]))
        output = _tensors(self.model((pixels - self.mean) / self.std))[self.output_index]
        logits = _READINGS[self.reading](output.reshape(pixels.shape[0], -1))
        if self.feature_maps:
            seen = size if self.second is None else self.second(pixels)
            recorded = self.recorder.outputs
            maps = [f.read(recorded[f.name][f.call], seen) for f in self.feature_maps]
            features = Features(tuple(maps), logits, size)
        else:
            # an encoder of its own does not query the black box
            features = self.network.encoder.encode(cast(BlackBox, None), pixels)
        decoder, classes = self.network.decoder, logits.argmax(1) if labels is None else labels
        gate = self.network.selector(features.maps[-1], classes)
        pair = decoder(decoder.prepare(features.maps), gate.sigmoid())
        return logits, resize_maps(mask_ratio(pair, self.confidence), size).clamp(0, 1)


@final
class SecondModule(nn.Module):
    """A copy of the network of an encoder, which is run for the outputs of its layers.

    Args:
        encoder: Of a masking network.

    Raises:
        InputError: The network does more than normalize images.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: PretrainedEncoder) -> None:
        super().__init__()
        self.model, self.input_size = _plain(module_of(encoder.network)), encoder.input_size
        for name, default in (("mean", 0.0), ("std", 1.0)):
            values = tuple(getattr(encoder.network, name, None) or (default,))
            self.register_buffer(
                name, torch.tensor(values, dtype=torch.float32, device="cpu").view(1, -1, 1, 1)
            )
        first, (height, width) = encoder.feature_maps[-1], self.input_size
        images = torch.rand(
            2, max(3, self.mean.shape[1]), height, width, generator=Generator().manual_seed(0),
            dtype=torch.float32, device="cpu",
        )  # fmt: skip
        recorder = ActivationRecorder()
        handle = get_layer(self.model, first.name).register_forward_hook(recorder.hook(first.name))
        self(images)
        handle.remove()
        expected = encoder.encode(cast(BlackBox, None), images).maps[-1].float().cpu()
        got = first.read(recorder.outputs[first.name][first.call], self.input_size)
        if not _close(got, expected):
            raise InputError(
                f"the encoder {encoder.network!r} does more than normalize images and call its "
                "module, so it cannot be exported."
            )

    def forward(self, pixels: Images) -> tuple[int, int]:
        """Run the network; returns the size of the images that it got."""
        self.model((resize_maps(pixels, self.input_size) - self.mean) / self.std)
        return self.input_size


def _plain(module: Any) -> Any:
    """A copy on the CPU, in float32 and in the usual memory format."""
    module = copy.deepcopy(module).cpu().float().to(memory_format=torch.contiguous_format)
    return module.eval().requires_grad_(False)


def _tensors(output: object) -> list[Tensor]:
    """All tensors in a model's output."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = tuple(output.values())
    elif not isinstance(output, tuple | list):
        output = (getattr(output, "logits", None),)
    return [tensor for part in output if part is not None for tensor in _tensors(part)]


def _close(got: Tensor, expected: Tensor, half: bool = False) -> bool:
    if got.shape != expected.shape:
        return False
    scale = (expected.max() - expected.min()) + 1e-2 * expected.abs().max()
    tolerance = _TOLERANCE_HALF if half else _TOLERANCE
    return bool((got - expected).abs().max() <= tolerance * scale)


def _noise_images(black_box: BlackBox, size: int | tuple[int, int] | None) -> Images:
    """Three images of noise: two for the exporter, and one more for the comparison."""
    size = getattr(black_box, "input_size", (0, 0)) if size is None else size
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise InputError(
            f"export_onnx: {name_of(black_box)} has no input size, so give size=, a side or "
            "(height, width), >= 1."
        )
    channels = len(getattr(black_box, "mean", None) or (0, 0, 0))
    return torch.rand(
        3,
        channels,
        height,
        width,
        generator=Generator().manual_seed(0),
        dtype=torch.float32,
        device="cpu",
    )


def _write(graph: nn.Module, inputs: tuple[Tensor, ...], path: Path, dynamo: bool) -> None:
    names, outputs = ["images", "labels"][: len(inputs)], ["logits", "mask"]
    options: dict[str, Any] = {"dynamic_axes": {name: {0: "batch"} for name in names + outputs}}
    if dynamo:
        batch = torch.export.Dim("batch", min=1)
        options = {"dynamic_shapes": tuple({0: batch} for _ in names), "external_data": False}
    options |= {"input_names": names, "output_names": outputs}
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            graph, inputs, str(path), dynamo=dynamo, opset_version=_OPSET, verbose=False, **options
        )


def _compare(path: Path, inputs: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    """Run the file in onnxruntime, if it is installed, and compare the outputs."""
    if find_spec("onnxruntime") is None:
        return
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]
    arrays = dict(zip(names, (value.numpy() for value in inputs), strict=True))
    logits, mask = map(torch.from_numpy, session.run(["logits", "mask"], arrays))
    if not _close(logits, expected[0]):
        raise SaliencyKitError("the graph's logits in onnxruntime differ from the model's.")
    # classes with equal logits may come in either order
    same = slice(None) if len(inputs) > 1 else logits.argmax(1) == expected[0].argmax(1)
    if not torch.allclose(mask[same], expected[1][same], atol=_TOLERANCE):
        raise SaliencyKitError("the graph's mask in onnxruntime differs from the network's.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters, and turn off fused transformer layers, which have no ONNX form."""
    fused, logger = torch.backends.mha.get_fastpath_enabled(), logging.getLogger("torch.onnx")
    level = logger.level
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        logger.setLevel(level)
