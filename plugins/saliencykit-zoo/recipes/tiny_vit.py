"""Train the ViT-Tiny of twenty classes of Tiny-ImageNet that `benchmarks/unseen_kinds.py` explains.

    python plugins/saliencykit-zoo/recipes/tiny_vit.py --output work/tiny-vit.pt

Data: `tiny-imagenet-200/` under $SALIENCYKIT_DATA, every tenth class. Flipped and shifted images, AdamW, label smoothing. Run again
to resume. Five CPU-minutes; no good classifier, but one whose evidence is its own.
"""

import argparse
import math
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # the benchmarks are not installed

from benchmarks.data import TINY, tiny_images, tiny_vit

BATCH, LR, WARM, SHIFT = 64, 2e-3, 100, 8


def shifted(images, g):
    """Flipped at random, all by the same shift of up to SHIFT pixels."""
    images = torch.where(
        torch.rand(len(images), 1, 1, 1, generator=g) < 0.5, images.flip(3), images
    )
    y, x = torch.randint(0, 2 * SHIFT + 1, (2,), generator=g).tolist()
    return F.pad(images, (SHIFT,) * 4, mode="reflect")[:, :, y : y + TINY, x : x + TINY]


def accuracy(net):
    """Of the validation images."""
    pixels, labels = tiny_images("val")
    with torch.no_grad():
        found = [net((some.float() / 255 - 0.5) / 0.25).argmax(1) for some in pixels.split(200)]
    return float((torch.cat(found) == labels).float().mean())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1200)
    a = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, (pixels, labels) = tiny_vit(), tiny_images("train200")
    adam = torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=0.05)
    state, first = a.output.with_suffix(".state.pt"), 0
    a.output.parent.mkdir(parents=True, exist_ok=True)
    if state.exists():
        stored = torch.load(state, weights_only=True)
        net.load_state_dict(stored["net"])
        adam.load_state_dict(stored["adam"])
        first = stored["step"]
    begin = time.process_time()
    for step in range(first, a.steps):
        g = torch.Generator().manual_seed(step)
        for group in adam.param_groups:
            rate = 0.5 + 0.5 * math.cos(math.pi * step / a.steps)
            group["lr"] = LR * min(1, (step + 1) / WARM) * rate
        index = torch.randint(len(labels), (BATCH,), generator=g)
        images = shifted((pixels[index].float() / 255 - 0.5) / 0.25, g)
        loss = F.cross_entropy(net(images), labels[index], label_smoothing=0.1)
        adam.zero_grad()
        loss.backward()
        adam.step()
        if (step + 1) % 100 == 0:
            seconds = time.process_time() - begin
            print(f"{step + 1} loss {float(loss.detach()):.3f} cpu {seconds:.0f} s", flush=True)
            kept = {"net": net.state_dict(), "adam": adam.state_dict(), "step": step + 1}
            torch.save(kept, state)
    net.eval()
    torch.save(net.state_dict(), a.output)
    print(f"right: {100 * accuracy(net):.1f} % of the validation images")


if __name__ == "__main__":
    main()
