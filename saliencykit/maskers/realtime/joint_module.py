"""JointModule: a black box and a masking network as one plain module."""

import copy
from collections.abc import Callable
from typing import Any, cast, final

import torch
from torch import Generator, Tensor, nn

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
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
from saliencykit.networks.output_tensors import tensors_in
from saliencykit.networks.tolerance import same_answers


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
        _add_statistics(self, black_box)
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
            outputs = tensors_in(self.model((images - self.mean) / self.std))
        self.confidence, self.num_classes = confidence, expected.shape[1]
        dtype = next((t.dtype for t in module_of(black_box).parameters()), torch.float32)
        matches = [
            (index, reading)
            for index, output in enumerate(outputs)
            if output.ndim and len(output) == len(images)
            for reading, read in enumerate(_READINGS)
            if same_answers(read(output.reshape(len(output), -1)), expected, dtype)
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
        output = tensors_in(self.model((pixels - self.mean) / self.std))[self.output_index]
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
        _add_statistics(self, encoder.network)
        first = encoder.feature_maps[-1]
        images = noise(2, max(3, self.mean.shape[1]), *self.input_size)
        recorder = ActivationRecorder()
        handle = get_layer(self.model, first.name).register_forward_hook(recorder.hook(first.name))
        self(images)
        handle.remove()
        expected = encoder.encode(cast(BlackBox, None), images).maps[-1].float().cpu()
        got = first.read(recorder.outputs[first.name][first.call], self.input_size)
        if not same_answers(got, expected, torch.float32):
            raise InputError(
                f"the encoder {encoder.network!r} does more than normalize images and call its "
                "module, so it cannot be exported."
            )

    def forward(self, pixels: Images) -> tuple[int, int]:
        """Run the network; returns the size of the images that it got."""
        self.model((resize_maps(pixels, self.input_size) - self.mean) / self.std)
        return self.input_size


def _add_statistics(module: nn.Module, black_box: BlackBox) -> None:
    """Register the pixel statistics of a black box, (1, C, 1, 1), as buffers `mean` and `std`."""
    for name, default in (("mean", 0.0), ("std", 1.0)):
        values = tuple(getattr(black_box, name, None) or (default,))
        statistics = torch.tensor(values, dtype=torch.float32, device="cpu")
        module.register_buffer(name, statistics.view(1, -1, 1, 1))


def _plain(module: Any) -> Any:
    """A copy on the CPU, in float32 and in the usual memory format."""
    module = copy.deepcopy(module).cpu().float().to(memory_format=torch.contiguous_format)
    return module.eval().requires_grad_(False)


def noise(*shape: int) -> Images:
    """Images of uniform noise on the CPU, always the same."""
    generator = Generator().manual_seed(0)
    return torch.rand(*shape, generator=generator, dtype=torch.float32, device="cpu")
