r"""The universal masker on kinds of model that its network has never seen.

    python -m benchmarks.unseen_kinds --work work --out rows/kinds.jsonl
    python -m benchmarks.unseen_kinds --table rows/kinds.jsonl --into docs/results/universal.md

Small models of timm and a plain network of convolutions learn twelve machine parts at 80 px, whose
evidence is known: the pixels of the part. A ViT-Tiny of Tiny-ImageNet comes from the recipe
`tiny_vit.py` (its file in --work), MobileNetV2 sees photos of 384 px, and ResNet-20 those of
CIFAR-10 at 32 px. The model's own class is explained. Next to kept minus dropped under the
two held-out fills the table has the share of the part among as many best pixels as it has.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from benchmarks.cifar10 import cifar10, resnet20
from benchmarks.data import TINY, Photo, mobilenet_v2, tiny_images, tiny_vit
from benchmarks.rows import Row, append, read_rows
from benchmarks.scoring import AREAS, UNSEEN, Scorer
from benchmarks.split import part, read, squashing
from benchmarks.tables import put_into
from benchmarks.universal import difference
from saliencykit.black_boxes import TorchBlackBox
from saliencykit.core import Masker
from saliencykit.core.map_placement import resize_maps
from saliencykit.maskers import GradCam, Iterative, Universal
from saliencykit.testing import machine_parts

SIDE, CLASSES = 80, 12


def vit() -> nn.Module:
    """Four blocks on patches of 8 pixels."""
    return _timm("vit_tiny_patch16_224", img_size=SIDE, patch_size=8, embed_dim=96, depth=4)


def swin() -> nn.Module:
    """Three stages on patches of 4 pixels, windows of 5 tokens."""
    small = {"depths": (1, 1, 2), "num_heads": (2, 4, 8), "embed_dim": 32}
    return _timm("swin_tiny_patch4_window7_224", img_size=SIDE, window_size=5, **small)


def convnext() -> nn.Module:
    """Four stages on patches of 2 pixels."""
    return _timm("convnext_atto", depths=(1, 1, 2, 1), dims=(16, 32, 64, 96), patch_size=2)


def convolutions() -> nn.Module:
    """Five convolutions, pooled: what a user's own model looks like."""
    layers: list[nn.Module] = []
    for before, after in ((3, 24), (24, 48), (48, 64), (64, 96)):
        conv = nn.Conv2d(before, after, 3, 2, 1, bias=False)
        layers += [conv, nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, CLASSES))


PARTS: dict[str, Callable[[], nn.Module]] = {
    "ViT, 12 parts": vit,
    "Swin, 12 parts": swin,
    "ConvNeXt, 12 parts": convnext,
    "5 convolutions, 12 parts": convolutions,
}


def _timm(name: str, **options: Any) -> nn.Module:
    import timm

    model: nn.Module = timm.create_model(name, num_classes=CLASSES, **options)
    return model


def taught(make: Callable[[], nn.Module], path: Path, *, steps: int) -> TorchBlackBox:
    """A model that knows the parts; from its file, or trained and stored there."""
    torch.manual_seed(0)
    net, g = make(), Generator().manual_seed(0)
    if not path.exists():
        images, labels, _ = machine_parts(2400, generator=g, size=SIDE)
        adam = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.02)
        for step in range(steps):
            chosen = torch.randint(len(images), (32,), generator=g)
            for group in adam.param_groups:
                group["lr"] = 2e-3 * min(1, step / 50, 2 * (1 - step / steps))
            some = images[chosen].flip(3) if step % 2 else images[chosen]
            loss = F.cross_entropy(net((some - 0.5) / 0.5), labels[chosen])
            adam.zero_grad()
            loss.backward()
            adam.step()
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(net.state_dict(), path)
    net.load_state_dict(torch.load(path, weights_only=True))
    return TorchBlackBox(net.eval(), mean=(0.5,) * 3, std=(0.5,) * 3, size=SIDE)


Example = tuple[Photo, Tensor | None]


def parts(count: int) -> Iterator[Example]:
    """Fresh images of parts, and where the part is."""
    images, labels, masks = machine_parts(count, generator=Generator().manual_seed(1), size=SIDE)
    for i in range(count):
        yield Photo(str(i), images[i : i + 1], int(labels[i]), torch.zeros(0, 4)), masks[i]


def small_photos(split: Callable[[], tuple[Tensor, Tensor]], count: int) -> Iterator[Example]:
    """Small images with their labels."""
    pixels, labels = split()
    order = torch.randperm(len(labels), generator=Generator().manual_seed(1))[:count].tolist()
    for i in order:
        image = pixels[i : i + 1].float() / 255
        yield Photo(str(i), image, int(labels[i]), torch.zeros(0, 4)), None


def kinds(arguments: argparse.Namespace) -> Iterator[tuple[str, TorchBlackBox, Iterator[Example]]]:
    """Name, classifier and images of each."""
    count = arguments.photos
    for name, make in PARTS.items():
        path = arguments.work / f"{make.__name__}.pt"
        yield name, taught(make, path, steps=arguments.steps), parts(count)
    stored = arguments.work / "tiny-vit.pt"
    if stored.exists():
        net = tiny_vit()
        net.load_state_dict(torch.load(stored, weights_only=True))
        black_box = TorchBlackBox(net.eval(), mean=(0.5,) * 3, std=(0.25,) * 3, size=TINY)
        yield "ViT-Tiny, Tiny-ImageNet", black_box, small_photos(lambda: tiny_images("val"), count)
    yield (
        "ResNet-20, CIFAR-10",
        resnet20(steps=40),
        small_photos(lambda: cifar10("test", 500), count),
    )
    large = replace(squashing(mobilenet_v2()), size=384)
    photos = ((photo, None) for photo in read(part("report")[:count], large))
    yield "MobileNetV2 at 384 px", large, photos


def row_of(masker: Masker, score: Scorer, truth: Tensor | None) -> Row:
    """The figures of one mask."""
    start = time.process_time()
    given = (score.black_box, score.image, score.label)
    output = masker.attribute(*given, generator=Generator().manual_seed(0))
    row: Row = {"seconds": round(time.process_time() - start, 4)}
    mask = output.mask if output.attributions is None else output.attributions
    ranking = resize_maps(mask, score.image.shape[2:])
    places = score.places(ranking)
    pairs = [] if places is None else score.at_areas(places, AREAS, UNSEEN).values()
    row["gap"] = round(mean(kept - dropped for kept, dropped in pairs), 4) if pairs else 0.0
    if truth is not None and places is not None:
        best = places[0] < truth.mean()
        row["inside"] = round(float((best * truth).sum() / truth.sum()), 4)
    return row


def run(arguments: argparse.Namespace) -> None:
    """Append the rows that are not there yet."""
    done = {(row["photo"], row["method"]) for row in read_rows(arguments.out)}
    universal = Universal(network=arguments.network)
    for name, black_box, examples in kinds(arguments):
        methods: dict[str, Masker] = {"map": GradCam()}
        methods |= {"universal": universal, "iterative": Iterative()}
        for photo, truth in examples:
            with torch.no_grad():
                logits = black_box(photo.image)
            right = int(logits.argmax()) == photo.label
            score = Scorer(black_box, replace(photo, label=int(logits.argmax())))
            for method, masker in methods.items():
                key = f"{name} {photo.name}"
                if (key, method) not in done:
                    row = {"photo": key, "method": method, "model": name, "right": right}
                    append(arguments.out, row | row_of(masker, score, truth))
        print(name, file=sys.stderr)


def table(file: Path) -> str:
    """Markdown: a line per model."""
    found: dict[str, dict[str, dict[str, Row]]] = {}
    for row in read_rows(file):
        found.setdefault(row["model"], {}).setdefault(row["method"], {})[row["photo"]] = row
    lines = [
        "| model | images | right, % | kept - dropped: its map | `universal` | `iterative` | more "
        "than the map | of the part inside, %: its map | `universal` | `iterative` | CPU ms: its "
        "map | `universal` | `iterative` |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for model, by_method in found.items():
        rows = [list(by_method[name].values()) for name in ("map", "universal", "iterative")]
        cells = [model, str(len(rows[0])), f"{100 * mean(row['right'] for row in rows[0]):.0f}"]
        cells += [f"{mean(row['gap'] for row in each):.3f}" for each in rows]
        more = [ours["gap"] - own["gap"] for own, ours in zip(*rows[:2], strict=True)]
        cells.append(difference(more, 1, 3))
        known = "inside" in rows[0][0]
        cells += [f"{100 * mean(r['inside'] for r in each):.0f}" if known else "" for each in rows]
        cells += [
            f"{1e3 * sorted(r['seconds'] for r in each)[len(each) // 2]:.0f}" for each in rows
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("work"), help="where models are kept")
    parser.add_argument("--network", type=Path, help="a file; default: the one that ships")
    parser.add_argument("--photos", type=int, default=24)
    parser.add_argument("--steps", type=int, default=500, help="of training each model")
    parser.add_argument("--out", type=Path, default=Path("kinds.jsonl"))
    parser.add_argument("--table", type=Path, help="a file of rows: print the table")
    parser.add_argument("--into", type=Path, help="a page: put it between its comments too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        run(arguments)
        return
    print(text := table(arguments.table))
    if arguments.into:
        put_into(arguments.into, "kinds", text)


if __name__ == "__main__":
    main()
