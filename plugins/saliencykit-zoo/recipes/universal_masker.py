"""Train the universal masker that the package ships, over several classifiers at once.

    python plugins/saliencykit-zoo/recipes/universal_masker.py --work WORK --output universal.safetensors
    python plugins/saliencykit-zoo/recipes/universal_masker.py --work WORK --without squeezenet --output left-out.safetensors

Data: `benchmarks/split.py`'s training photos under $SALIENCYKIT_DATA without labels and boxes (each classifier's own top class is
explained), and training images of Tiny-ImageNet for the embedded classifier. For each classifier a file in WORK/cache holds the images,
the evidence of their top class and of other classes, the similarities of its feature maps, and the target: excitation backprop blurred by
8 pixels, averaged with the masks of a trained masker where the zoo has one. A few rows show photos pasted small on others. After the
targets the network learns from the classifiers: kept minus dropped probability at random areas. Run again to resume: the cache and the checkpoint in WORK are kept.
Ten CPU-minutes.
"""

import argparse
import math
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # the benchmarks are not installed

from benchmarks.data import MODELS, Pack, data_folder
from benchmarks.split import part, read, squashing, training
from saliencykit.alternatives import Blur, Choice
from saliencykit.core import compose
from saliencykit.core.map_placement import resize_maps
from saliencykit.core.nested_masks import nested_masks, pixel_order
from saliencykit.maskers import Cam, Universal
from saliencykit.maskers.gradient.excitation_backprop import ExcitationBackprop
from saliencykit.maskers.universal.class_evidence import read_evidence
from saliencykit.maskers.universal.sharpening_network import SharpeningNetwork
from saliencykit.maskers.universal.universal_masker import encoder_images, save_network
from saliencykit.registry import as_black_box, as_masker
from saliencykit.training.mask_targets import soft_masks
from saliencykit.training.pastes import make_layouts
from saliencykit.training.validation import curve_score

TRAINED = {"mobilenet_v2": "zoo/mobilenetv2", "squeezenet": "zoo/squeezenet1-0", "demo": "demo"}
CHUNK, OTHERS, SEEN = 8, 2, 0.1
EDITED, ANCHOR = 8, 0.5  # images of a step of the second phase; weight of the target there
SMALLER, LEAST = (
    5 / 7,
    128,
)  # sides of the images that the classifiers see there; not those below 128 px
SLOWER, WARM = 0.3, 50  # learning rate of the second phase; steps until it is reached
SHARPER = 1.5  # exponent of the targets: the teachers' soft masks cover half of a photo
ROWS = 12  # images of a step
VARIANTS = 3  # of the evidence of each: twice of its own class, once of another


def classifier(name):
    return as_black_box("demo") if name == "demo" else squashing(MODELS[name][0]())


def images_of(name, black_box, count, seed):
    """`count` training images as the classifier takes them."""
    if name == "demo":
        pack = Pack(data_folder() / "tiny-imagenet-200" / "train200.npz")
        chosen = random.Random(f"{name} {seed}").sample(range(len(pack.labels)), count)
        pixels = pack.pixels(chosen).float() / 255
        return F.interpolate(pixels, size=black_box.size, mode="bilinear", antialias=True).clamp(
            0, 1
        )
    chosen = random.Random(f"{name} {seed}").sample(training(), count)
    return torch.cat([photo.image for photo in read(chosen, black_box)])


@torch.no_grad()
def described(black_box, images, labels):
    """What the network gets of some images: evidence of the labels and of random other classes, and similarities."""
    evidence = read_evidence(black_box, images)
    top = evidence.logits.argmax(1) if labels is None else labels
    g = Generator().manual_seed(int(images.sum() * 1000) % 2**31)
    classes = evidence.logits.shape[1]
    others = (
        top[:, None] + torch.randint(1, classes, (len(images), OTHERS), generator=g)
    ) % classes
    every = torch.cat([top[:, None], others], 1)
    held = {
        "images": (encoder_images(images) * 255).round().byte(),
        "evidence": evidence.of(every).half(),
        "strength": evidence.strength(every),
    }
    for number, cosines in enumerate(evidence.similarities):
        if cosines is not None:
            held[f"similarity{number}"] = (cosines * 127).round().to(torch.int8)
    return held, top, evidence.logits.softmax(1)


def targets_of(name, black_box, images, labels, side):
    blur = 8 / 224 * images.shape[2]
    maskers = [ExcitationBackprop(blur=blur)]
    maskers += [as_masker(TRAINED[name])] if name in TRAINED else []
    soft = []
    for masker in maskers:
        mask = masker(black_box, images, labels, generator=Generator().manual_seed(0))
        soft.append(
            resize_maps(soft_masks(mask), side)
            if isinstance(masker, ExcitationBackprop)
            else resize_maps(mask, side)
        )
    return torch.stack(soft).mean(0)


def cache(name, folder, count, pastes, seed=0):
    """Make a classifier's file."""
    path = folder / f"{name}.safetensors"
    if path.exists():
        return
    begin, black_box = time.process_time(), classifier(name)
    images, rows, labels = images_of(name, black_box, count, seed), [], []
    for some in images.split(CHUNK):
        held, top, _ = described(black_box, some, None)
        side = [-(-s // 4) for s in held["images"].shape[2:]]
        target = targets_of(name, black_box, some, top, side)
        rows.append(held | {"target": (target * 255).round().byte()})
        labels.append(top)
    labels, targets = torch.cat(labels), torch.cat([row["target"] for row in rows])
    layouts = make_layouts(torch.arange(count), 2 * pastes, Generator().manual_seed(seed))
    made = 0
    for index in torch.arange(2 * pastes).split(CHUNK):
        some = layouts.rows(index)
        shown = some.compose(images[some.views.clamp_min(0)], tuple(images.shape[2:])).clamp(0, 1)
        slot = 1  # pasted, or the second of a mosaic
        own = labels[some.views[:, slot]]
        held, _, p = described(black_box, shown, own)
        tiles = targets[some.views.clamp_min(0)].float() / 255
        same = labels[some.views.clamp_min(0)] == own[:, None]
        small = some.compose(tiles * same[:, :, None, None, None], tuple(targets.shape[2:])).clamp(
            0, 1
        )
        held["target"] = (small * 255).round().byte()
        seen = p.gather(1, own[:, None])[:, 0] > SEEN
        rows.append({key: value[seen] for key, value in held.items()})
        made += int(seen.sum())
        if made >= pastes:
            break
    head = read_evidence(black_box, images[:1]).head
    stored = {key: torch.cat([row[key] for row in rows]).contiguous() for key in rows[0]}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(stored | {"offset": torch.tensor(head.feature_map.offset)}, path)
    print(
        f"cached {name}: {count} images, {made} pastes, {time.process_time() - begin:.0f} CPU-s",
        flush=True,
    )


@dataclass
class Rows:
    """A batch of one classifier."""

    images: Tensor
    evidence: Tensor
    strength: Tensor
    similarities: list
    target: Tensor
    offset: tuple

    def cropped(self, g):
        """A window of whole cells, the same for all; the evidence keeps its scale."""
        cells = self.evidence.shape[2:]
        if any(side % n for side, n in zip(self.images.shape[2:], cells, strict=True)):
            return self
        keep = [int(torch.randint(max(4, n // 2), n + 1, (1,), generator=g)) for n in cells]
        first = [
            int(torch.randint(0, n - k + 1, (1,), generator=g))
            for n, k in zip(cells, keep, strict=True)
        ]

        def window(maps, of=cells):
            sides = maps.shape[-2:]
            cut = [
                slice(f * s // n, (f + k) * s // n)
                for f, k, s, n in zip(first, keep, sides, of, strict=True)
            ]
            return maps[..., cut[0], cut[1]]

        similarities = []
        for cosines in self.similarities:
            if cosines is not None:
                inside = window(cosines.reshape(len(cosines), *cells, *cosines.shape[2:]))
                inside = inside[
                    :, first[0] : first[0] + keep[0], first[1] : first[1] + keep[1]
                ].flatten(1, 2)
            similarities.append(None if cosines is None else inside)
        return Rows(
            window(self.images),
            window(self.evidence),
            self.strength,
            similarities,
            window(self.target),
            self.offset,
        )

    def flipped(self):
        """Mirrored left to right."""
        cells = self.evidence.shape[2:]
        similarities = [
            None
            if c is None
            else c.reshape(len(c), *cells, *c.shape[2:]).flip(2).flip(-1).flatten(1, 2)
            for c in self.similarities
        ]
        return Rows(
            self.images.flip(3),
            self.evidence.flip(3),
            self.strength,
            similarities,
            self.target.flip(3),
            (self.offset[0], -self.offset[1]),
        )

    def coarser(self, g):
        """Evidence and similarities on a coarser grid."""
        cells = self.evidence.shape[2:]
        if min(cells) < 6:
            return self
        grid = tuple(int(torch.randint(max(4, n // 2), n, (1,), generator=g)) for n in cells)
        similarities = []
        for c in self.similarities:
            if c is not None:
                moved = c.reshape(len(c), *cells, -1).permute(0, 3, 1, 2)
                c = (
                    F.adaptive_avg_pool2d(moved, grid)
                    .flatten(2)
                    .transpose(1, 2)
                    .view(len(c), -1, *c.shape[2:])
                )
            similarities.append(c)
        return Rows(
            self.images,
            F.adaptive_avg_pool2d(self.evidence, grid),
            self.strength,
            similarities,
            self.target,
            self.offset,
        )

    def jittered(self, g):
        """Evidence that is blurred, noisy, of another contrast; images without color; feature maps left out."""
        evidence, count = self.evidence, len(self.evidence)
        each = torch.rand(5, count, VARIANTS, 1, 1, generator=g)
        smooth = F.avg_pool2d(F.pad(evidence, (1, 1, 1, 1), mode="replicate"), 3, 1)
        share = (each[0] < 0.3) * each[1]
        evidence = evidence + share * (smooth - evidence)
        noise = torch.randn(evidence.shape, generator=g) * 0.2 * each[2] * (each[3] < 0.5)
        evidence = evidence + noise
        largest = evidence.amax((2, 3), keepdim=True).clamp_min(1e-3)
        evidence = (evidence / largest).clamp(-1, 1)
        power = 2 ** (1.2 * each[4] - 0.6)
        evidence = evidence.sign() * evidence.abs() ** power
        whole, gray = self.images, torch.rand(count, 1, 1, 1, generator=g) < 0.1
        images = torch.where(gray, whole.mean(1, keepdim=True).expand_as(whole), whole)
        drop = torch.rand(3, generator=g)
        similarities = [
            None if drop[0] < 0.1 or drop[1 + i] < 0.1 else c
            for i, c in enumerate(self.similarities)
        ]
        return Rows(images, evidence, self.strength, similarities, self.target, self.offset)


def batch(stored, size, g):
    """Random rows of a classifier's file, with their augmentation; the last variant is of another class, with an empty target."""
    index = torch.randint(len(stored["target"]), (size,), generator=g)
    which = torch.zeros(size, VARIANTS, dtype=torch.int64)
    which[:, -1] = torch.randint(1, OTHERS + 1, (size,), generator=g)
    target = (stored["target"][index].float() / 255).expand(-1, VARIANTS, -1, -1).clone()
    target[:, -1] = 0
    similarities = [
        stored[f"similarity{i}"][index].float() / 127 if f"similarity{i}" in stored else None
        for i in range(2)
    ]
    rows = Rows(
        stored["images"][index].float() / 255,
        stored["evidence"][index[:, None], which].float(),
        stored["strength"][index[:, None], which],
        similarities, target, tuple(stored["offset"].tolist()),
    )  # fmt: skip
    if torch.rand((), generator=g) < 0.5:
        rows = rows.flipped()
    if rows.evidence.shape[2] > 10 or torch.rand((), generator=g) < 0.2:
        return rows.coarser(g).jittered(g)
    rows = rows.jittered(g)
    return rows.cropped(g) if torch.rand((), generator=g) < 0.7 else rows


def loss_of(network, rows):
    """Binary cross-entropy of masks and targets, and the masks."""
    masks, _ = network(rows.images, rows.evidence, rows.strength, rows.similarities, rows.offset)
    target = resize_maps(rows.target, masks.shape[2:]) ** SHARPER
    return F.binary_cross_entropy(masks.clamp(1e-4, 1 - 1e-4), target), masks


class Queried:
    """The classifiers, for the second phase: they see images of which the best pixels are kept, and removed."""

    def __init__(self, names):
        self.black_boxes = [classifier(name) for name in names]
        self.fast = [None] * len(names)

    def loss(self, network, stored, number, g):
        """Minus kept plus dropped probability at a random area, and the distance from the target."""
        index = torch.randint(len(stored["target"]), (EDITED,), generator=g)
        given = stored["images"][index].float() / 255
        similarities = [
            stored[f"similarity{i}"][index].float() / 127 if f"similarity{i}" in stored else None
            for i in range(2)
        ]
        evidence, strength = stored["evidence"][index, :1].float(), stored["strength"][index, :1]
        masks, scores = network(
            given, evidence, strength, similarities, tuple(stored["offset"].tolist())
        )
        size = [
            side if side < LEAST else round(side * SMALLER / 32) * 32
            for side in self.black_boxes[number].input_size
        ]
        images = F.adaptive_avg_pool2d(given, size)
        if self.fast[number] is None:
            self.fast[number] = self.black_boxes[number].optimized_for(images)
        black_box = self.fast[number]
        areas = 0.05 + 0.45 * torch.rand(EDITED, 1, generator=g)
        best = resize_maps(nested_masks(scores, areas, edge_width=0.05), size)
        fill = Choice()(images, generator=g)
        with torch.no_grad():
            labels = black_box(images).argmax(1)
        kept, dropped = (
            black_box(compose(images, part, fill)).softmax(1).gather(1, labels[:, None]).mean()
            for part in (best, 1 - best)
        )
        target = resize_maps(stored["target"][index].float() / 255, masks.shape[2:]) ** SHARPER
        far = F.binary_cross_entropy(masks.clamp(1e-4, 1 - 1e-4), target)
        return dropped - kept + ANCHOR * far, kept - dropped, masks


def train(files, queried, work, name, steps, objective_steps, lr, seed):
    """Train, or resume, and return the network and the CPU seconds that it took."""
    torch.manual_seed(seed)
    network = SharpeningNetwork()
    adam = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=1e-2)
    path, done, seconds = work / f"{name}.pt", 0, 0.0
    if path.exists():
        state = torch.load(path, weights_only=True)
        network.load_state_dict(state["network"])
        adam.load_state_dict(state["adam"])
        done, seconds = state["done"], state["seconds"]
    stored = [load_file(each) for each in files]
    begin, recent = time.process_time() - seconds, []
    for step in range(done, steps + objective_steps):
        g = Generator().manual_seed(seed * 1_000_003 + step)
        number = int(torch.randint(len(stored), (1,), generator=g))
        distilled = step < steps
        at, of, rate = (
            (step, steps, lr) if distilled else (step - steps, objective_steps, lr * SLOWER)
        )
        rate *= min(1, (at + 1) / WARM) * (0.51 + 0.5 * math.cos(math.pi * at / of))
        for group in adam.param_groups:
            group["lr"] = rate
        network.train(distilled)  # few edited images are no statistics
        if distilled:
            loss, masks = loss_of(network, batch(stored[number], ROWS, g))
            facts = (masks[:, :-1], masks[:, -1])
        else:
            loss, won, masks = queried.loss(network, stored[number], number, g)
            facts = (masks, won)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
        recent.append([float(each.detach().mean()) for each in (loss, *facts)])
        done, spent = step + 1, time.process_time() - begin
        if done % 50 == 0:
            mean, what = (
                torch.tensor(recent).mean(0).tolist(),
                "other class" if distilled else "kept - dropped",
            )
            recent = []
            print(
                f"{name} {done} cpu {spent:.0f} s loss {mean[0]:.4f} area {mean[1]:.3f} {what} {mean[2]:.3f}",
                flush=True,
            )
        if done % 200 == 0 or done in (steps, steps + objective_steps):
            torch.save(
                {
                    "network": network.state_dict(),
                    "adam": adam.state_dict(),
                    "done": done,
                    "seconds": spent,
                },
                path,
            )
    return network.eval(), time.process_time() - begin


def validation(name, network, count):
    """Kept minus dropped probability at equal areas under blur, of the network and of CAM, on tuning photos."""
    black_box = classifier(name)
    photos = list(read(part("tune")[:count], black_box))
    images, labels = (
        torch.cat([photo.image for photo in photos]),
        torch.tensor([photo.label for photo in photos]),
    )
    scores = {}
    for method, masker in {"universal": Universal(network=network), "cam": Cam()}.items():
        masks = [
            masker.attribute(black_box, i[None], k[None], generator=Generator())
            for i, k in zip(images, labels, strict=True)
        ]
        orders = torch.cat([pixel_order(m.mask, m.attributions) for m in masks])
        ranks = orders / orders[0].numel()
        scores[method] = round(
            curve_score(black_box, images, labels, ranks, alternative=Blur(), batch_size=8), 4
        )
        scores[f"{method} area"] = round(float(torch.cat([m.mask for m in masks]).mean()), 3)
    return scores


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=[*MODELS, "demo"])
    parser.add_argument("--without", nargs="*", default=[], help="classifiers to leave out")
    parser.add_argument("--count", type=int, default=500, help="images of each classifier")
    parser.add_argument("--pastes", type=int, default=100)
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--objective-steps", type=int, default=300, help="through the classifiers")
    parser.add_argument(
        "--validate",
        type=int,
        default=24,
        help="tuning photos to validate on a left-out classifier",
    )
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    torch.set_num_threads(1)
    for name in a.models:
        cache(name, a.work / "cache", a.count, a.pastes)
    names = [name for name in a.models if name not in a.without]
    if a.steps:
        files = [a.work / "cache" / f"{name}.safetensors" for name in names]
        queried = Queried(names) if a.objective_steps else None
        given = (a.work, a.output.stem, a.steps, a.objective_steps, a.lr, a.seed)
        network, seconds = train(files, queried, *given)
        facts = {
            "objective_steps": a.objective_steps,
            "classifiers": names,
            "steps": a.steps,
            "seed": a.seed,
            "cpu_seconds": round(seconds),
        }
        save_network(a.output, network, facts)
        checked = {
            name: validation(name, a.output, a.validate)
            for name in a.models
            if name in a.without and name != "demo"
        }
        print(checked, flush=True)
        save_network(a.output, network, facts | {"validation": checked})


if __name__ == "__main__":
    main()
