"""The kinds of files that somebody else may have written: how to make a valid one, and how to use
it afterwards, as far as a user would.
"""

import io
import json
import random
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from saliencykit import Explanation, Scores, TorchBlackBox, evaluate, explain, explain_dataset
from saliencykit.black_boxes.class_names import read_class_names
from saliencykit.black_boxes.preprocessing_inference import Preprocessing
from saliencykit.black_boxes.state_dict import build_with_weights
from saliencykit.black_boxes.surrogate import Surrogate
from saliencykit.black_boxes.surrogate_network import make_surrogate_network
from saliencykit.calibration.calibrate_masker import calibrate
from saliencykit.data.dataset import Dataset
from saliencykit.data.images import as_images
from saliencykit.explanation.audit_bundle import audit
from saliencykit.explanation.audit_record import AuditRecord
from saliencykit.maskers.realtime.masking_network import masking_network
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.maskers.stored import StoredMasks
from saliencykit.reports.report_files import write_report
from saliencykit.storage.run_export import export_run
from saliencykit.storage.saved_explanations import SavedExplanations
from saliencykit.surrogate.masked_images import MaskedImages
from saliencykit.surrogate.query_cache import QueryCache
from saliencykit.training.fit_checkpoint import load_state, save_state
from tests.helpers import seeded
from tests.hostile.damage import ODD, damaged_bytes, damaged_json

try:
    import pyarrow
    from pyarrow import parquet
except ImportError:
    parquet = None

IMAGES = torch.rand(4, 3, 16, 16, generator=seeded(7))


class Small(nn.Module):
    """A classifier with feature maps."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.one, self.two = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 8, 3, 1, 1)
            self.fc = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.two(self.one(x).relu()).relu().mean((2, 3)))


def black_box() -> TorchBlackBox:
    names = ("red", "green", "blue")
    statistics = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    return TorchBlackBox(Small().eval(), size=16, class_names=names, **statistics)


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Args:
        make: Writes valid files into a folder.
        use: Reads them, and does with them what a user would.
    """

    make: Callable[[Path], object]
    use: Callable[[Path], object]


def _masker(encoder: str) -> Kind:
    def make(folder: Path) -> None:
        network = masking_network(black_box(), IMAGES, encoder=encoder)
        facts = {"training": {"steps": 3}, "validation": {"score": 0.5}, "size": [16, 16]}
        masker = RealTimeMasker(network, metadata=facts).bind(black_box())
        masker.save(folder / "m.safetensors")

    def use(folder: Path) -> None:
        masker = RealTimeMasker.load(folder / "m.safetensors", black_box())
        masker(black_box(), IMAGES[:2], torch.tensor([0, 1]), generator=seeded())
        masker.predict(IMAGES[:2])

    return Kind(make, use)


def _make_surrogate(folder: Path) -> None:
    module, architecture, _ = make_surrogate_network("own", 3, (16, 16), 3)
    inner = TorchBlackBox(module.eval(), mean=(0.5,) * 3, std=(0.25,) * 3, size=16)
    Surrogate(
        inner, 3, (16, 16), class_names=("a", "b", "c"), architecture=architecture,
        preprocessing=Preprocessing((16, 16), "pad", 1.0, "bicubic", 3, (0.1, 0.2, 0.3)),
        baseline_color=(0.5, 0.5, 0.5), metadata={"queries": 70, "fidelity": {"whole": 0.9}},
    ).save(folder / "s.safetensors")  # fmt: skip


def _use_surrogate(folder: Path) -> None:
    surrogate = Surrogate.load(folder / "s.safetensors")
    surrogate(surrogate.prepare(Image.new("RGB", (50, 40)))[0])
    repr(surrogate)


def _make_explanation(folder: Path) -> None:
    images = [Image.new("RGB", (20, 10), (200, 30, 10)), Image.new("L", (9, 9), 90)]
    explain(black_box(), images, masker="center-box").save(folder)


def _use_explanation(folder: Path) -> None:
    explanation = Explanation.load(folder)
    for index in range(len(explanation)):
        explanation.overlay(index)
        explanation.caption(index)
    repr(explanation), explanation.to_source(), explanation.boxes(), explanation.heatmaps()
    explanation.save(folder / "again")
    write_report(explanation, folder / "page.html")


def _pairs() -> list[Any]:
    return list(zip(IMAGES, (0, 1, 2, 0), strict=True))


def _explain(folder: Path) -> SavedExplanations:
    return explain_dataset(black_box(), _pairs(), masker="center-box", output_dir=folder)


def _use_run(folder: Path) -> None:
    saved = SavedExplanations.load(folder)
    rows = list(saved.rows())
    for row in rows:
        if row.failure is None:
            saved.mask_of(row)
    StoredMasks(run=str(folder))(black_box(), IMAGES[:1], torch.tensor([0]), generator=seeded())
    write_report(saved, folder / "page.html")
    _explain(folder)


def _sealed(make: Callable[[Path], object]) -> Kind:
    def sealed(folder: Path) -> None:
        make(folder)
        audit(folder)

    def use(folder: Path) -> None:
        record = AuditRecord.load(folder)
        assert all("\n" not in problem for problem in record.problems("0" * 16))
        audit(folder)

    return Kind(sealed, use)


def _exported(to: str) -> Kind:
    def use(folder: Path) -> None:
        assert export_run(folder, to).exists()

    return Kind(_explain, use)


def _certified(name: str) -> Kind:
    def make(folder: Path) -> None:
        masker: Any = "center-box"
        if name.endswith(".safetensors"):
            masker = RealTimeMasker(masking_network(black_box(), IMAGES)).bind(black_box())
        images = torch.rand(24, 3, 16, 16, generator=seeded(3))
        calibrate(black_box(), masker, images, keep=0.5, level=0.5).save(folder / name)

    def use(folder: Path) -> None:
        answer = explain(black_box(), IMAGES[:2], masker=str(folder / name), inputs="raw")
        assert len(answer.remarks) in (0, 2)

    return Kind(make, use)


def _archive(name: str) -> Kind:
    def make(folder: Path) -> None:
        content = io.BytesIO()
        _photo().save(content, "PNG")
        if name.endswith(".parquet"):
            columns = {"image": [content.getvalue()] * 5, "label": [0, 1, 2, 0, 1]}
            parquet.write_table(pyarrow.table(columns), folder / name, row_group_size=2)
            return
        with tarfile.open(folder / name, "w") as tar:
            for i in range(3):
                for suffix, data in (("png", content.getvalue()), ("cls", str(i).encode())):
                    member = tarfile.TarInfo(f"{i}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))

    def use(folder: Path) -> None:
        for each in Dataset.open(str(folder / name), black_box()).load():
            assert each.failure is None or "\n" not in each.failure

    return Kind(make, use)


def _evaluate(folder: Path) -> Scores:
    return evaluate(black_box(), ["center-box"], ["insertion:steps=2"], _pairs(), output_dir=folder)


def _use_scores(folder: Path) -> None:
    scores = Scores.load(folder)
    repr(scores), scores.table(), scores._repr_html_()
    scores.to_csv(folder / "again.csv")
    write_report(scores, folder / "page.html")
    _evaluate(folder)


def _photo() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _image(name: str, **options: Any) -> Kind:
    def make(folder: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        _photo().save(folder / name, **options, **({} if "gif" in name else {"exif": exif}))

    return Kind(make, lambda folder: as_images(folder / name, black_box()))


def _list(name: str, text: str, source: str = "{0}") -> Kind:
    def make(folder: Path) -> None:
        (folder / name).write_text(text)
        images = folder.parent / "images"
        images.mkdir(exist_ok=True)
        for each in "ab":
            _photo().save(images / f"{each}.png")

    def use(folder: Path) -> None:
        source_text = source.format(folder / name, folder.parent / "images")
        data = Dataset.open(source_text, black_box(), boxes=None)
        for batch in data.batches(2):
            assert batch.failure is None or "\n" not in batch.failure
        list(Dataset.open(source_text, black_box(), use_labels=False).batches(2))

    return Kind(make, use)


_XML = (
    "<annotation><filename>a.png</filename><source><database>x</database></source><size><width>30"
    "</width><height>20</height><depth>3</depth></size><object><name>red</name><bndbox><xmin>2"
    "</xmin><ymin>3</ymin><xmax>9</xmax><ymax>12</ymax></bndbox></object></annotation>"
)
_COCO = {
    "images": [
        {"id": 1, "file_name": "a.png", "width": 30, "height": 20},
        {"id": 2, "file_name": "b.png", "width": 30, "height": 20},
    ],
    "categories": [{"id": 5, "name": "red"}, {"id": 6, "name": "blue"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 5, "bbox": [2, 3, 9, 8], "iscrowd": 0, "area": 72},
        {"id": 2, "image_id": 2, "category_id": 6, "bbox": [1, 1, 5, 5], "iscrowd": 0, "area": 25},
    ],
}
_LINES = [
    {"path": "../images/a.png", "label": "red", "boxes": [[2, 3, 9, 8]]},
    {"path": "../images/b.png", "label": 2, "boxes": "1 1 5 5;2 2 9 9"},
]


_BOXES = "ImageId,PredictionString\na,red 2 3 9 8\nb,blue 1 1 5 5 blue 2 2 9 9\n"


def _use_boxes(folder: Path) -> None:
    boxes = folder / "b.csv" if (folder / "b.csv").exists() else folder
    images = str(folder.parent / "images")
    list(Dataset.open(images, black_box(), boxes=boxes, use_labels=False).batches(2))


def _adam() -> tuple[nn.Module, torch.optim.Optimizer]:
    network = Small()
    return network, torch.optim.Adam(network.parameters(), lr=1e-3)


def _step(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    network(IMAGES).sum().backward()
    optimizer.step()


def _make_checkpoint(folder: Path) -> None:
    network, optimizer = _adam()
    _step(network, optimizer)
    facts = {
        "done": 7, "area_weight": 0.5, "smoothed_area": 0.3, "stopped": False, "views": 8,
        "validations": [{"step": 5, "score": 0.5}], "schedule": {"lr": "0.003"},
    }  # fmt: skip
    best = {name: value.clone() for name, value in network.state_dict().items()}
    save_state(folder / "state.safetensors", network, optimizer, facts, best=best)


def _use_checkpoint(folder: Path) -> None:
    network, optimizer = _adam()
    facts, kept = load_state(folder / "state.safetensors", network, optimizer)
    facts["done"] + 1, facts["area_weight"] * 2, max(v["score"] for v in facts["validations"])
    if kept["best"] is not None:
        network.load_state_dict(kept["best"])
    _step(network, optimizer)


def _answers(folder: Path) -> QueryCache:
    pixels = (IMAGES * 255).to(torch.uint8)
    images = MaskedImages(pixels, torch.arange(4), torch.ones(4))
    return QueryCache(black_box(), images, "source", folder)


def _pickle(folder: Path) -> None:
    torch.save(Small().state_dict(), folder / "w.pt")


def _weights(folder: Path) -> None:
    save_file(Small().state_dict(), folder / "w.safetensors")


def _use_weights(folder: Path) -> None:
    (path,) = folder.iterdir()
    model = build_with_weights(lambda classes: Small(), path, None)
    TorchBlackBox(model.eval())(IMAGES)


KINDS = {
    "masker with a trunk": _masker("trunk"),
    "masker with an encoder": _masker("own"),
    "surrogate": Kind(_make_surrogate, _use_surrogate),
    "explanation": Kind(_make_explanation, _use_explanation),
    "run of explain_dataset": Kind(_explain, _use_run),
    "sealed explanation": _sealed(_make_explanation),
    "sealed run": _sealed(_explain),
    "export as npz": _exported("npz"),
    "export as COCO": _exported("coco-rle"),
    "certified method": _certified("c.json"),
    "certified masker": _certified("c.safetensors"),
    "tar of images": _archive("a.tar"),
    "run of evaluate": Kind(_evaluate, _use_scores),
    "checkpoint of fit": Kind(_make_checkpoint, _use_checkpoint),
    "answers": Kind(
        lambda folder: _answers(folder).logits(), lambda folder: _answers(folder).logits()
    ),
    "weights": Kind(_weights, _use_weights),
    "pickled weights": Kind(_pickle, _use_weights),
    "PNG": _image("a.png"),
    "JPEG": _image("a.jpg"),
    "GIF": _image("a.gif"),
    "TIFF": _image("a.tif", compression="tiff_lzw"),
    "WebP": _image("a.webp"),
    "CSV": _list("d.csv", "path,label,boxes\n../images/a.png,red,1 1 5 5\n../images/b.png,2,\n"),
    "JSON lines": _list("d.jsonl", "\n".join(map(json.dumps, _LINES))),
    "COCO": _list("d.json", json.dumps(_COCO), "coco:{1},annotations={0}"),
    "VOC": Kind(lambda folder: _list("a.xml", _XML).make(folder), _use_boxes),
    "ImageNet boxes": Kind(lambda folder: _list("b.csv", _BOXES).make(folder), _use_boxes),
    "class names": Kind(
        lambda folder: (folder / "n.json").write_text('["red", "green", "blue"]'),
        lambda folder: read_class_names(str(folder / "n.json")),
    ),
}

if parquet is not None:
    KINDS["Parquet of images"] = _archive("a.parquet")
    KINDS["export as Parquet"] = _exported("parquet")


def damage(folder: Path, random: random.Random) -> str:
    """Damage one file of a folder; returns which and how."""
    path = random.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    how = "bytes"
    if path.suffix == ".safetensors" and random.random() < 0.75:
        how = _damage_safetensors(path, random)
    elif path.suffix in (".json", ".jsonl") and random.random() < 0.75:
        how = "JSON"
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        at = random.randrange(len(lines)) if lines else 0
        lines[at : at + 1] = [damaged_json(json.loads(lines[at]), random)] if lines else []
        path.write_bytes("\n".join(lines).encode(errors="surrogatepass"))
    elif path.suffix in (".csv", ".xml") and random.random() < 0.6:
        how = "text"
        text = path.read_text()
        words = sorted(set(filter(None, text.replace("<", ">").replace(",", ">").split(">"))))
        odd = str(random.choice(ODD))
        path.write_bytes(text.replace(random.choice(words), odd, 1).encode(errors="replace"))
    else:
        path.write_bytes(damaged_bytes(path.read_bytes(), random))
    return f"{path.relative_to(folder)} ({how})"


def _damage_safetensors(path: Path, random: random.Random) -> str:
    """Another header, or other tensors, in a file that is valid otherwise."""
    with safe_open(path, "pt") as file:
        texts = file.metadata() or {}
    tensors = load_file(path)
    if texts and random.random() < 0.7:
        key = random.choice(sorted(texts))
        texts[key] = damaged_json(json.loads(texts[key]), random)
        save_file(tensors, path, {k: v.encode(errors="replace").decode() for k, v in texts.items()})
        return "header"
    name = random.choice(sorted(tensors))
    value = tensors[name]
    changes = (
        lambda t: t.double(), lambda t: t.to(torch.int64), lambda t: t.to(torch.bool),
        lambda t: torch.full_like(t, 5), lambda t: t[:0] if t.ndim else t, lambda t: t[None],
        lambda t: t.float() * torch.nan, lambda t: t.float() + torch.inf, lambda t: -t.float(),
        lambda t: t.to(torch.int8), lambda t: t.to(torch.bfloat16), lambda t: t.flatten()[:1],
        lambda t: torch.cat([t, t]) if t.ndim else t, lambda t: t.to(torch.float8_e4m3fn),
    )  # fmt: skip
    if random.random() < 0.2:
        tensors[random.choice(("other", "", "network.x", "optimizer.0.step"))] = tensors.pop(name)
    else:
        tensors[name] = random.choice(changes)(value).contiguous()
    save_file(tensors, path, texts)
    return "tensors"
