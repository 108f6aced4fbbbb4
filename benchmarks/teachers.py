"""What could a masker learn from, so that it finds small objects? Masks of cheap teachers on photos
of the tuning part, whole and in a window around what was found first.

    python -m benchmarks.teachers --model mobilenet_v2 --masker masker.safetensors --masks masks.pt
    python -m benchmarks.teachers --masks masks.pt --into docs/results/five-classifiers.md

The masks are made once, kept in half precision at 56 x 56, and added to if the file lacks photos.
All photos with an object under 15 % of the photo are taken and 120 others, which are weighted up to
their share. A window is the box of the masker's own mask at half of its range and 30 % more, where
that is under 80 % of the photo. A box that overlaps no object's box by half misses.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from benchmarks.data import MODELS, Photo
from benchmarks.results import black_boxes
from benchmarks.split import SIZES, Record, part, read
from benchmarks.tables import put_into
from saliencykit.core import Mask, enlarge_boxes, tight_boxes
from saliencykit.maskers.realtime.box_threshold import LEVELS, level_boxes
from saliencykit.metrics import best_overlaps
from saliencykit.registry import as_masker
from saliencykit.training.mask_targets import soft_masks

OTHERS = 120  # photos with larger objects
_HALF, _HIGH = LEVELS.index(0.5), LEVELS.index(0.75)
_SIDE = 56
_MARGIN, _LEAST, _MOST = 0.3, 64 / 224, 0.8  # of a window: added, least side, largest area

Masks = dict[str, Tensor]
"""By name: `own`, `excitation` (backprop, soft), `closer` and `closest` (own, in a window once and
twice), `excitation closer`; each (N, 1, 56, 56).
"""


def _small(masks: Masks, area: float) -> Tensor:
    return ((masks["own"] >= 0.5).float().mean((1, 2, 3)) < area)[:, None, None, None]


def _mean(*names: str) -> Callable[[Masks], Tensor]:
    return lambda masks: sum((masks[name] for name in names), torch.tensor(0.0)) / len(names)


def _where_small(area: float, small: Callable[[Masks], Tensor], *large: str) -> Callable[..., Mask]:
    return lambda masks: torch.where(_small(masks, area), small(masks), _mean(*large)(masks))


BOTH = _mean("closer", "excitation closer")
TEACHERS: dict[str, Callable[[Masks], Tensor]] = {
    "own": _mean("own"),
    "own, made in a window": _mean("closer"),
    "the same twice": _mean("closest"),
    "excitation backprop, blurred 8 px, soft": _mean("excitation"),
    "the same in the window of the own mask": _mean("excitation closer"),
    "mean of own and excitation": _mean("own", "excitation"),
    "mean of own in the window and excitation": _mean("closer", "excitation"),
    "mean of both in the window": BOTH,
    "the same where the own mask covers less than 35 %": _where_small(
        0.35, BOTH, "own", "excitation"
    ),
    "the same, less than 25 %": _where_small(0.25, BOTH, "own", "excitation"),
    "the same, less than 15 %": _where_small(0.15, BOTH, "own", "excitation"),
    "mean of own and own in the window": _mean("own", "closer"),
    "mean of all four": _mean("own", "closer", "excitation", "excitation closer"),
    "geometric mean of both in the window": lambda masks: (
        masks["closer"] * masks["excitation closer"]
    ).sqrt(),
    "own twice in the window where it covers less than 35 %": _where_small(
        0.35, _mean("closest"), "own"
    ),
    "own twice in the window, less than 25 %": _where_small(0.25, _mean("closest"), "own"),
}


def windows(masks: Mask, size: tuple[int, int]) -> Tensor:
    """A window around each mask, (B, 4) in pixels; the whole photo where it would be most of it."""
    height, width = size
    sides = torch.tensor([width, height], dtype=torch.float32)
    grid = sides / torch.tensor([masks.shape[3], masks.shape[2]])
    boxes = tight_boxes(masks >= masks.amax((2, 3), keepdim=True) / 2) * grid.repeat(2)
    lengths = ((1 + _MARGIN) * (boxes[:, 2:] - boxes[:, :2])).maximum(_LEAST * sides)
    lengths = lengths.minimum(sides)
    first = ((boxes[:, :2] + boxes[:, 2:] - lengths) / 2).clamp_min(0).minimum(sides - lengths)
    found = torch.cat([first, first + lengths], 1).round().long()
    whole = torch.tensor([0, 0, width, height])
    large = lengths.prod(1) >= _MOST * height * width
    return torch.where(large[:, None], whole, found)


def masks_of(photo: Photo, own: Callable[..., Mask], excitation: Callable[..., Mask]) -> Masks:
    """The masks of one photo."""
    size = (photo.image.shape[2], photo.image.shape[3])

    def made(masker: Callable[..., Mask], window: Tensor) -> Mask:
        x0, y0, x1, y1 = window[0].tolist()
        crop = enlarge_boxes(photo.image, window)
        mask = F.interpolate(masker(crop, photo.label), (y1 - y0, x1 - x0), mode="bilinear")
        return F.pad(mask.clamp(0, 1), (x0, size[1] - x1, y0, size[0] - y1))

    whole = torch.tensor([[0, 0, size[1], size[0]]])
    first = made(own, whole)
    window = windows(first, size)
    closer = made(own, window)
    masks = {
        "own": first,
        "closer": closer,
        "closest": made(own, windows(closer, size)),
        "excitation": made(excitation, whole),
        "excitation closer": made(excitation, window),
    }
    return {name: F.interpolate(m, _SIDE, mode="area").half() for name, m in masks.items()}


def chosen() -> list[tuple[Record, float]]:
    """The photos and how many of the tuning part each stands for."""
    entries = part("tune")
    small = [entry for entry in entries if entry.size_group == 0]
    others = [entry for entry in entries if entry.size_group][:OTHERS]
    rest = (len(entries) - len(small)) / len(others)
    return [(entry, 1.0) for entry in small] + [(entry, rest) for entry in others]


def make(model: str, masker: str, path: Path) -> None:
    """Fill the file with the masks of all photos."""
    forms = black_boxes(model)
    own, excitation = as_masker(masker), as_masker("excitation-backprop:blur=8")

    def own_mask(image: Tensor, label: int) -> Mask:
        return own(forms.frozen, image, torch.tensor([label]), generator=Generator().manual_seed(0))

    def excited(image: Tensor, label: int) -> Mask:
        given = (image, torch.tensor([label]))
        return soft_masks(excitation(forms.own, *given, generator=Generator().manual_seed(0)))

    rows = torch.load(path) if path.exists() else {}
    for number, (entry, _) in enumerate(chosen()):
        if entry.name in rows:
            continue
        photo = next(iter(read([entry], forms.own)))
        sides = torch.tensor(photo.image.shape[2:]).flip(0).repeat(2)
        rows[entry.name] = photo.boxes / sides, masks_of(photo, own_mask, excited)
        if number % 20 == 19:
            torch.save(rows, path)
    torch.save(rows, path)


def hits(masks: Mask, boxes: list[Tensor]) -> Tensor:
    """Is the box of each mask right at each of LEVELS, (N, L)?"""
    found = level_boxes(masks).unbind(0)
    return torch.stack(best_overlaps(found, boxes)).ge(0.5).double()


def table(path: Path) -> str:
    """What every teacher misses."""
    rows = torch.load(path)
    entries = [(entry, weight) for entry, weight in chosen() if entry.name in rows]
    groups = torch.tensor([entry.size_group for entry, _ in entries])
    weights = torch.tensor([weight for _, weight in entries], dtype=torch.float64)
    boxes = [rows[entry.name][0] for entry, _ in entries]
    names = next(iter(rows.values()))[1]
    masks = {
        name: torch.cat([rows[entry.name][1][name].float() for entry, _ in entries])
        for name in names
    }

    def cells(right: Tensor) -> str:
        wrong = 100 * (1 - right)
        each = (f"{wrong[groups == group].mean():.0f}" for group in range(len(SIZES) + 1))
        return f"{' / '.join(each)} | {float(wrong @ weights / weights.sum()):.1f}"

    sizes = "<.15 / .15-.4 / .4-.7 / >.7"
    lines = [
        f"{len(entries)} photos, error in %.\n",
        f"| mask to learn from | box at 0.5: {sizes} | all | at 0.75 where it covers less than "
        f"25 % at 0.5: {sizes} | all | best level of each photo: {sizes} | all |",
        "|---" * 7 + "|",
    ]
    for name, teacher in TEACHERS.items():
        taught = teacher(masks)
        right = hits(taught, boxes)
        small = (taught >= 0.5).float().mean((1, 2, 3)) < 0.25
        cut = torch.where(small, right[:, _HIGH], right[:, _HALF])
        lines.append(
            f"| {name} | {cells(right[:, _HALF])} | {cells(cut)} | {cells(right.amax(1))} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(MODELS), default="mobilenet_v2")
    parser.add_argument("--masker", help="its file or text; without it nothing is made")
    parser.add_argument("--masks", type=Path, required=True, help="the file of masks")
    parser.add_argument("--into", type=Path, help="also put it between two comments of this page")
    parser.add_argument("--tag", default="teachers", help="<!-- TAG --> and <!-- end of TAG -->")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.masker:
        make(arguments.model, arguments.masker, arguments.masks)
    text = table(arguments.masks)
    print(text)
    if arguments.into:
        put_into(arguments.into, arguments.tag, text)


if __name__ == "__main__":
    main()
