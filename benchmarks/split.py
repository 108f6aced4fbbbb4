"""The fixed split of the boxed photos: a training half without labels, a part to make choices on,
and a part to report.

    python -m benchmarks.split                      # how many photos are in which part
    python -m benchmarks.split --export photos      # the training photos as a folder

Which part a photo is in depends on a hash of data set and file name, on nothing else. Thresholds
and every other choice are made on `tune`; nothing that is chosen looks at `report`. The photos of
`imagenet-sample` have no boxes and are for training only.
"""

import argparse
import csv
import io
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path

import torch

from benchmarks.data import Photo, data_folder
from saliencykit.black_boxes import TorchBlackBox

BOXED = ("ilsvrc2012-val-a", "ilsvrc2012-val-b")
UNBOXED = "imagenet-sample"
PARTS = ("train", "tune", "report")
UNTIL = {"train": 0.51, "tune": 0.64, "report": 1.0}
SIZES = (0.15, 0.4, 0.7)
"""Limits of the groups by size of the object: the mean area of its boxes as a share of the photo.
"""


@dataclass(frozen=True)
class Record:
    """One photo of a data set, unread.

    Attributes:
        data_set: The folder.
        file: Its name there.
        label: ImageNet class, 0..999.
        boxes: x0, y0, x1, y1 as shares of the photo's sides; empty where the data set has none.
    """

    data_set: str
    file: str
    label: int
    boxes: tuple[tuple[float, float, float, float], ...] = ()

    @property
    def name(self) -> str:
        """Data set and file: what rows of results are keyed by."""
        return f"{self.data_set}/{self.file}"

    @property
    def place(self) -> float:
        """Where the hash of the name lies in [0, 1)."""
        return int.from_bytes(sha256(self.name.encode()).digest()[:8], "big") / 2**64

    @property
    def part(self) -> str:
        """`train`, `tune` or `report`."""
        return next(part for part in PARTS if self.place < UNTIL[part])

    @property
    def object_area(self) -> float:
        """The mean area of its boxes, a share in (0, 1]."""
        return sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in self.boxes) / len(self.boxes)

    @property
    def size_group(self) -> int:
        """0 (an object below 15 % of the photo) to 3 (above 70 %)."""
        return sum(self.object_area >= limit for limit in SIZES)


@cache
def entries(data_set: str) -> tuple[Record, ...]:
    """The photos of one data set as its index lists them."""
    found = []
    for row in csv.DictReader((data_folder() / data_set / "index.csv").read_text().splitlines()):
        sides = [float(row["width"]), float(row["height"])] * 2
        corners = [
            [float(v) for v in bbox.split()] for bbox in (row.get("boxes") or "").split(";") if bbox
        ]
        shares = [
            tuple(min(1.0, max(0.0, c / s)) for c, s in zip(bbox, sides, strict=True))
            for bbox in corners
        ]
        boxes = tuple(bbox for bbox in shares if bbox[2] > bbox[0] and bbox[3] > bbox[1])
        found.append(Record(data_set, row["file"], int(row["label"]), boxes))
    return tuple(found)


def part(name: str) -> list[Record]:
    """The photos of a part in the order of their hash: any head of the list is a fair sample."""
    there = [
        entry
        for data_set in BOXED
        for entry in entries(data_set)
        if entry.part == name and entry.boxes
    ]
    return sorted(there, key=lambda entry: entry.place)


def training() -> list[Record]:
    """All that may be trained on: the training half of the boxed photos, and the photos without
    boxes.
    """
    return [*part("train"), *entries(UNBOXED)]


def few(count: int, among: list[Record]) -> list[Record]:
    """`count` of the photos with the same shares of size groups and data sets as all of them, for
    methods that cost much.

    Each group gets its share rounded down, and those with the largest remainders one more; within a
    group the hash decides.
    """
    groups: dict[tuple[int, str], list[Record]] = defaultdict(list)
    for entry in sorted(among, key=lambda entry: entry.place):
        groups[entry.size_group, entry.data_set].append(entry)
    wanted = {key: len(group) * count / len(among) for key, group in groups.items()}
    seats = {key: int(share) for key, share in wanted.items()}
    for key in sorted(groups, key=lambda key: (seats[key] - wanted[key], key))[
        : count - sum(seats.values())
    ]:
        seats[key] += 1
    return sorted(
        (entry for key, group in groups.items() for entry in group[: seats[key]]),
        key=lambda entry: entry.place,
    )


def squashing(bbox: TorchBlackBox) -> TorchBlackBox:
    """The black box for whole photos, squashed to a square: val-b is stored so, and every
    ground-truth box stays in sight.
    """
    return replace(bbox, fit="squash", crop_pct=1.0)


def read(some: list[Record], bbox: TorchBlackBox) -> Iterator[Photo]:
    """The photos, one by one, as `bbox` wants them."""
    from PIL import Image

    archives: dict[str, zipfile.ZipFile] = {}
    for entry in some:
        if entry.data_set not in archives:
            archives[entry.data_set] = zipfile.ZipFile(
                data_folder() / entry.data_set / "images.zip"
            )
        photo = Image.open(io.BytesIO(archives[entry.data_set].read(entry.file))).convert("RGB")
        image, geometry = bbox.prepare(photo)
        corners = torch.tensor(entry.boxes).reshape(-1, 4) * torch.tensor(
            [photo.width, photo.height] * 2
        )
        yield Photo(entry.name, image, entry.label, geometry.bbox_from_source(corners))


def export(some: list[Record], folder: Path) -> None:
    """Write the photos into a folder as they are stored, byte for byte."""
    folder.mkdir(parents=True, exist_ok=True)
    for data_set in dict.fromkeys(entry.data_set for entry in some):
        with zipfile.ZipFile(data_folder() / data_set / "images.zip") as archive:
            for entry in some:
                if entry.data_set == data_set:
                    (folder / f"{data_set}-{Path(entry.file).name}").write_bytes(
                        archive.read(entry.file)
                    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--export", type=Path, help="write the training photos into this folder")
    arguments = parser.parse_args()
    for name in PARTS:
        there = part(name)
        sizes = [
            sum(entry.size_group == group for entry in there) for group in range(len(SIZES) + 1)
        ]
        print(
            f"{name}: {len(there)} photos with boxes; objects <.15, .15-.4, .4-.7, >.7 of the "
            f"photo: {sizes}"
        )
    print(f"training, with {UNBOXED}: {len(training())}")
    if arguments.export:
        export(training(), arguments.export)


if __name__ == "__main__":
    main()
