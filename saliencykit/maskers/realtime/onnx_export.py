"""Box and masker as one ONNX graph: a picture in, its logits and its mask out."""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, final

import torch
from torch import Tensor, nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import first_line, name_of
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.core.masker import resize_maps
from saliencykit.core.types import Images, Labels, Logits, Mask
from saliencykit.maskers.realtime.decoder import ratio
from saliencykit.maskers.realtime.encoder import Features, TrunkEncoder
from saliencykit.maskers.realtime.masking_network import MaskingNetwork
from saliencykit.networks.layer_activations import ActivationRecorder
from saliencykit.networks.module_layers import module_of

if TYPE_CHECKING:
    from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker

_OPSET = 18
# of the range: what a folded copy, another runtime and half precision's rounding may differ by
_CLOSE = 1e-3
_CLOSE_HALF = 5e-2


_READINGS: tuple[
    Callable[[Tensor], Tensor], ...
] = (  # of a model's answer: logits, probabilities, and each of a single sigmoid
    lambda x: x,
    lambda x: x.clamp_min(1e-12).log(),
    lambda x: torch.cat([torch.zeros_like(x), x], 1),
    lambda x: torch.cat([1 - x, x], 1).clamp_min(1e-12).log(),
)


def export_onnx(
    masker: "RealTimeMasker",
    path: Path,
    size: int | tuple[int, int] | None = None,
    labels: bool = False,
) -> Path:
    """Write a masker and its box as one ONNX file.

    The graph takes `pictures` (B, C, H, W), raw pixels in [0, 1], normalises them as the box does,
    and returns `logits` (B, K) and `mask` (B, 1, H, W) in [0, 1], 1 keeps; B is free, H and W are
    fixed. All is float32, whatever the box's precision. Box and masker are copied, neither is
    changed. Where onnxruntime is installed, the file is run before it gets its name, on as many
    pictures as the exporter did not see, and compared.

    Args:
        masker: Bound to a box with a torch module inside that takes `(pixels - mean) / std`, or raw
            pixels.
        path: Of the file; one that is there is replaced at once or not at all.
        size: Side or (height, width) of the pictures. None: the box's own.
        labels: Does the graph take a second input `labels` (B,) int64, the class that the mask is
            for? False: the top class.

    Raises:
        InputError: onnx is not installed, the masker is not bound, or the box is not such a box.
        SaliencyKitError: The model has something that ONNX lacks, or the graph answers otherwise
            than the box.
    """
    if find_spec("onnx") is None or find_spec("onnxscript") is None:
        raise InputError("export_onnx needs onnx and onnxscript; pip install 'saliencykit[onnx]'.")
    if not isinstance(getattr(masker, "network", None), MaskingNetwork):
        raise InputError(
            f"export_onnx writes a RealTimeMasker; got {name_of(masker)}, which is not one network."
        )
    black_box = masker.black_box
    pictures = _pictures(black_box, size)
    graph = OneModule(masker, black_box, pictures)
    asked = torch.arange(len(pictures)) % graph.classes
    wanted = graph(pictures, asked) if labels else graph(pictures)
    beside = path.with_name(f".{path.name}.part")
    reasons = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for dynamo in (
            True,
            False,
        ):  # by torch.export; where a model's control flow forbids that, by tracing
            try:
                _write(
                    graph, (pictures[:2], asked[:2]) if labels else (pictures[:2],), beside, dynamo
                )
                _compare(beside, (pictures, asked) if labels else (pictures,), wanted)
            except Exception as error:
                reasons.append(first_line(error))
                continue
            beside.replace(path)
            return path
    finally:
        beside.unlink(missing_ok=True)
    raise SaliencyKitError(
        f"{name_of(module_of(black_box))} with its masker cannot be written as ONNX: "
        f"{'; '.join(reasons)}. A common cause is len(x) in a model's forward, which fixes the "
        "batch: write x.shape[0]."
    )


@final
class OneModule(nn.Module):
    """Copies of box and network as one plain module on the CPU, without gradients: what is
    exported, or compiled.

    Args:
        masker: A trained one.
        black_box: With a torch module inside.
        pictures: (3, C, H, W), that the copies are tried on; H and W are fixed from then on.

    Raises:
        InputError: The box does more than normalise and ask its module.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, masker: "RealTimeMasker", black_box: BlackBox, pictures: Images) -> None:
        super().__init__()
        for name, default in (("mean", 0.0), ("std", 1.0)):
            numbers = getattr(black_box, name, None)
            self.register_buffer(
                name, torch.tensor(tuple(numbers) if numbers else (default,)).view(1, -1, 1, 1)
            )
        with torch.no_grad():
            wanted = black_box(pictures.to(black_box.device)).float().cpu()
            self.model = _plain(
                copy.deepcopy(module_of(black_box.optimized_for(pictures.to(black_box.device))))
            )
            self.network: MaskingNetwork = _plain(copy.deepcopy(masker._ready(torch.device("cpu"))))
            self.confidence, self.classes = masker.confidence, wanted.shape[1]
            self.listener, encoder = ActivationRecorder(), self.network.encoder
            self.feature_maps = encoder.feature_maps if isinstance(encoder, TrunkEncoder) else ()
            self.listener.register(
                self.model,
                list(dict.fromkeys(feature_map.name for feature_map in self.feature_maps)),
            )
            found = _tensors(self.model((pictures - self.mean) / self.std))
        half = next((t.dtype for t in module_of(black_box).parameters()), torch.float32) not in (
            torch.float32,
            torch.float64,
        )
        rows = [
            (i, t.reshape(len(t), -1))
            for i, t in enumerate(found)
            if t.ndim and len(t) == len(pictures)
        ]
        fits = [
            (i, j)
            for i, t in rows
            for j, read in enumerate(_READINGS)
            if _close(read(t), wanted, half)
        ]
        if not fits:
            raise InputError(
                f"{name_of(black_box)} does more than normalise and ask its module, so no graph can be "
                "made of it; export_onnx takes a TorchBlackBox(model, mean=..., std=..., "
                "size=...)."
            )
        self.place, self.reading = fits[0]
        self.eval()  # as a whole: an exporter puts it back into the mode that it found

    def forward(self, pixels: Images, labels: Labels | None = None) -> tuple[Logits, Mask]:
        """Logits (B, K) and the masks (B, 1, H, W) of the labels, or of the top classes."""
        self.listener.outputs.clear()
        # fixed: a tracer would make tensors of them
        size = (
            int(pixels.shape[2]),
            int(pixels.shape[3]),
        )
        answer = _tensors(self.model((pixels - self.mean) / self.std))[self.place]
        logits = _READINGS[self.reading](answer.reshape(pixels.shape[0], -1))
        heard = self.listener.outputs
        if self.feature_maps:
            features = Features(
                tuple(
                    feature_map.read(heard[feature_map.name][0], size)
                    for feature_map in self.feature_maps
                ),
                logits,
                size,
            )
        else:
            # an encoder of its own asks no box
            features = self.network.encoder.encode(cast(BlackBox, None), pixels)
        gate = self.network.selector(
            features.maps[-1], logits.argmax(1) if labels is None else labels
        )
        two = self.network.decoder(self.network.decoder.prepare(features.maps), gate.sigmoid())
        return logits, resize_maps(ratio(two, self.confidence), size).clamp(0, 1)


def _plain(module: Any) -> Any:
    """On the CPU, in float32 and in the usual memory order."""
    return (
        module.cpu().float().to(memory_format=torch.contiguous_format).eval().requires_grad_(False)
    )


def _tensors(answer: object) -> list[Tensor]:
    if isinstance(answer, Tensor):
        return [answer]
    if isinstance(answer, Mapping):
        answer = tuple(answer.values())
    elif not isinstance(answer, tuple | list):
        answer = (getattr(answer, "logits", None),)
    return [tensor for part in answer if part is not None for tensor in _tensors(part)]


def _close(got: Tensor, wanted: Tensor, half: bool = False) -> bool:
    if got.shape != wanted.shape:
        return False
    scale = (wanted.max() - wanted.min()) + 1e-2 * wanted.abs().max()
    return bool((got - wanted).abs().max() <= (_CLOSE_HALF if half else _CLOSE) * scale)


def _pictures(black_box: BlackBox, size: int | tuple[int, int] | None) -> Images:
    """Three pictures of noise: two for the exporter, and one more for the comparison."""
    size = getattr(black_box, "input_size", (0, 0)) if size is None else size
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise InputError(
            f"export_onnx: {name_of(black_box)} has no size of its own, so give size=, a side or "
            "(height, width), >= 1."
        )
    channels = len(getattr(black_box, "mean", None) or (0, 0, 0))
    return torch.rand(3, channels, height, width, generator=torch.Generator().manual_seed(0))


def _write(graph: nn.Module, inputs: tuple[Tensor, ...], path: Path, dynamo: bool) -> None:
    names = ["pictures", "labels"][: len(inputs)]
    outputs = ["logits", "mask"]
    options: dict[str, Any] = {
        "input_names": names,
        "output_names": outputs,
        "opset_version": _OPSET,
        "verbose": False,
    }
    if dynamo:
        batch = torch.export.Dim("batch", min=1)
        options |= {"dynamic_shapes": tuple({0: batch} for _ in names), "external_data": False}
    else:
        options |= {"dynamic_axes": {name: {0: "batch"} for name in names + outputs}}
    with _quiet(), torch.no_grad():
        torch.onnx.export(graph, inputs, str(path), dynamo=dynamo, **options)


def _compare(path: Path, inputs: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    """Run the file in onnxruntime, where that is installed."""
    if find_spec("onnxruntime") is None:
        return
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    answers = session.run(
        ["logits", "mask"], dict(zip(names, (t.numpy() for t in inputs), strict=True))
    )
    logits, mask = (torch.from_numpy(answer) for answer in answers)
    if not _close(logits, wanted[0]):
        raise SaliencyKitError("the graph's logits in onnxruntime differ from the model's.")
    # of equals either may come first
    same = slice(None) if len(inputs) > 1 else logits.argmax(1) == wanted[0].argmax(1)
    if not torch.allclose(mask[same], wanted[1][same], atol=_CLOSE):
        raise SaliencyKitError("the graph's mask in onnxruntime differs from the network's.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks, and without fused transformer layers, which have no ONNX
    form.
    """
    fast, log = torch.backends.mha.get_fastpath_enabled(), logging.getLogger("torch.onnx")
    level = log.level
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        log.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        log.setLevel(level)
