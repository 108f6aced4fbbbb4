"""Preview: the current masks of a few held-out images, in one image file."""

from pathlib import Path

import torch
from PIL import Image

from saliencykit.core.black_box import BlackBox
from saliencykit.core.map_placement import resize_maps
from saliencykit.core.types import Images, Labels
from saliencykit.maskers.realtime.masking_network import MaskingNetwork
from saliencykit.storage.atomic_files import write_beside
from saliencykit.training.eval_mode import eval_mode

_COLUMNS = 8
_GRAY = 0.5


def save_preview(
    network: MaskingNetwork, black_box: BlackBox, images: Images, labels: Labels, *, path: Path
) -> None:
    """Write a PNG of up to eight held-out images, their masks, and what they keep on gray.

    Raises:
        SaliencyKitError: The file cannot be written.
    """
    with eval_mode(network), torch.no_grad():
        some = images[:_COLUMNS]
        mask, _ = network(network.encoder.encode(black_box, some), labels[:_COLUMNS])
        large = resize_maps(mask, (images.shape[2], images.shape[3])).clamp(0, 1)
    channels = some[:, :3] if some.shape[1] >= 3 else some[:, :1].expand(-1, 3, -1, -1)
    rows = [channels, large.expand(-1, 3, -1, -1), channels * large + _GRAY * (1 - large)]
    grid = torch.cat([torch.cat(list(row), 2) for row in rows], 1)
    pixels = (grid.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    write_beside(path, lambda beside: Image.fromarray(pixels).save(beside, format="PNG"))
