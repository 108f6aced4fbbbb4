"""Twelve images with rectangles at known places, in every form in which a data set comes."""

import csv
import json
from dataclasses import dataclass, replace

import pytest
import torch
from PIL import Image
from torch import nn

from saliencykit.black_boxes.torch_module import TorchBlackBox

NAMES = ("red", "green", "blue")
COLORS = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220)}
SIZES = ((60, 40), (40, 60), (48, 48), (96, 64))


@dataclass(frozen=True)
class Drawn:
    """One image: (width, height), the class, the rectangles x0, y0, x1, y1 (exclusive)."""

    stem: str
    size: tuple[int, int]
    color: str
    boxes: list[tuple[int, int, int, int]]


DRAWN = [
    Drawn(
        f"image_{number:02d}",
        SIZES[number % 4],
        NAMES[number % 3],
        [(12 + number, 10, 12 + number + 14, 26)] + ([(0, 0, 6, 6)] if number % 4 == 3 else []),
    )
    for number in range(12)
]


def paint(drawn):
    image = Image.new("RGB", drawn.size, (90, 90, 90))
    for box in drawn.boxes:
        image.paste(COLORS[drawn.color], box)
    return image


def voc_xml(drawn, database, extra=()):
    first = 0 if database.startswith("ILSVRC") else 1
    things = [(drawn.color, box) for box in drawn.boxes] + list(extra)
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x0 + first}</xmin><ymin>{y0 + first}</ymin>"
        f"<xmax>{x1 - 1 + first}</xmax><ymax>{y1 - 1 + first}</ymax></bndbox></object>"
        for name, (x0, y0, x1, y1) in things
    )
    return (
        f"<annotation><filename>{drawn.stem}.png</filename><source><database>{database}</database></source>"
        f"<size><width>{drawn.size[0]}</width><height>{drawn.size[1]}</height><depth>3</depth></size>{objects}</annotation>"
    )


@pytest.fixture
def black_box():
    """The class is the strongest color; short side to 32, then the middle 32 x 32."""
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return replace(
        TorchBlackBox(model, mean=(0.0,) * 3, std=(1.0,) * 3, size=32), class_names=NAMES
    )


@pytest.fixture
def class_folders(tmp_path):
    for drawn in DRAWN:
        folder = tmp_path / "classes" / drawn.color
        folder.mkdir(parents=True, exist_ok=True)
        paint(drawn).save(folder / f"{drawn.stem}.png")
    return tmp_path / "classes"


@pytest.fixture
def flat(tmp_path):
    folder = tmp_path / "flat"
    folder.mkdir()
    for drawn in DRAWN:
        paint(drawn).save(folder / f"{drawn.stem}.png")
    return folder


@pytest.fixture
def xml(tmp_path):
    folder = tmp_path / "xml"
    folder.mkdir()
    for drawn in DRAWN:
        (folder / f"{drawn.stem}.xml").write_text(voc_xml(drawn, "ILSVRC_2012"))
    return folder


@pytest.fixture
def loc_solution(tmp_path):
    with (tmp_path / "LOC_val_solution.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["ImageId", "PredictionString"])
        for drawn in DRAWN:
            words = [f"{drawn.color} {x0} {y0} {x1 - 1} {y1 - 1}" for x0, y0, x1, y1 in drawn.boxes]
            rows.writerow([drawn.stem, " ".join(words) + " "])
    return tmp_path / "LOC_val_solution.csv"


@pytest.fixture
def table(flat):
    with (flat / "index.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "label", "boxes"])
        for drawn in DRAWN:
            rows.writerow(
                [
                    f"{drawn.stem}.png",
                    drawn.color,
                    ";".join(" ".join(map(str, b)) for b in drawn.boxes),
                ]
            )
    return flat / "index.csv"


@pytest.fixture
def voc(tmp_path):
    """A folder as torchvision's VOCDetection wants it; image 0 also holds a green object."""
    root = tmp_path / "voc" / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    for drawn in DRAWN:
        paint(drawn).save(root / "JPEGImages" / f"{drawn.stem}.jpg")
        extra = [("green", (1, 2, 9, 8))] if drawn is DRAWN[0] else []
        (root / "Annotations" / f"{drawn.stem}.xml").write_text(
            voc_xml(drawn, "The VOC2012 Database", extra)
        )
    (root / "ImageSets" / "Main" / "val.txt").write_text(
        "\n".join(drawn.stem for drawn in DRAWN) + "\n"
    )
    return tmp_path / "voc"


@pytest.fixture
def coco(tmp_path, flat):
    """Annotations of the flat folder; image 0 also holds a green object and a crowd."""
    objects = [(i, d.color, b, 0) for i, d in enumerate(DRAWN) for b in d.boxes]
    objects += [(0, "green", (1, 2, 9, 8), 0), (0, "red", (0, 0, 60, 40), 1)]
    file = tmp_path / "instances.json"
    file.write_text(
        json.dumps(
            {
                "images": [
                    {"id": 7 * i, "file_name": f"{d.stem}.png"} for i, d in enumerate(DRAWN)
                ],
                "categories": [{"id": 10 + i, "name": name} for i, name in enumerate(NAMES)],
                "annotations": [
                    {
                        "id": n,
                        "image_id": 7 * i,
                        "category_id": 10 + NAMES.index(name),
                        "iscrowd": crowd,
                    }
                    | {"bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]]}
                    for n, (i, name, b, crowd) in enumerate(objects, 1)
                ],
            }
        )
    )
    return file


@pytest.fixture
def truth():
    """By stem: label, and the boxes (n, 4) at 32 x 32 by hand: the short side to 32, the middle of
    the long one.
    """

    def of(drawn):
        width, height = drawn.size
        short = min(width, height)
        wide, tall = int(32 * width / short), int(32 * height / short)
        left, top = round((wide - 32) / 2), round((tall - 32) / 2)
        rows = []
        for x0, y0, x1, y1 in drawn.boxes:
            a, b = x0 * wide / width - left, y0 * tall / height - top
            c, d = x1 * wide / width - left, y1 * tall / height - top
            a, b, c, d = max(a, 0), max(b, 0), min(c, 32), min(d, 32)
            if c > a and d > b:
                rows.append([a, b, c, d])
        return NAMES.index(drawn.color), torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)

    return {drawn.stem: of(drawn) for drawn in DRAWN}
