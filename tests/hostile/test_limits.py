"""What a file may not do: lead somewhere else, or demand what it does not hold."""

import json
import os
import struct
import zlib
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from saliencykit import Explanation, InputError, evaluate, explain_dataset
from saliencykit.data.dataset import Dataset
from saliencykit.data.images import as_images
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.runs.lock import locked
from saliencykit.storage.atomic_files import write_beside
from saliencykit.storage.jsonl import append_lines
from tests.hostile.kinds import KINDS, _explain, _pairs, black_box

KEY = "saliencykit-masker"


def with_header(path, change):
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()[KEY])
    change(header)
    save_file(load_file(path), path, {KEY: json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: h["encoder"].update(widths=[2**16] * 4), "do not fit"),
        (lambda h: h["encoder"].update(depth=10**9), "<= 64, got 1000000000 in encoder"),
        (lambda h: h["selector"].update(num_classes=2**20, channels=2**16), "class weights"),
        (lambda h: h["decoder"].update(side=[10**12, 4]), r"got 1000000000000 in decoder.side"),
        (lambda h: h["decoder"].update(sides=[[0, 0]] * 4), r"got 0 in decoder.sides\[0\]\[0\]"),
        (lambda h: h.update(confidence=float("nan")), "got nan in confidence"),
        (lambda h: h["metadata"].update(size="big"), "got `str` in size"),
    ],
)  # fmt: skip
def test_a_header_that_demands_too_much_is_refused_at_once(tmp_path, change, words):
    KINDS["masker with an encoder"].make(tmp_path)
    path = tmp_path / "m.safetensors"
    with_header(path, change)
    with pytest.raises(InputError, match=words):
        RealTimeMasker.load(path)


def test_a_backbone_is_a_name_and_no_address(tmp_path):
    KINDS["masker with an encoder"].make(tmp_path)
    path = tmp_path / "m.safetensors"
    backbone = {"kind": "network", "network": "timm:hf-hub:some/body", "size": [9, 9]}
    layer = {"name": "a", "layout": "maps", "channels": 8, "side": [2, 2]}
    backbone |= {"fingerprint": None, "feature_maps": [layer]}
    with_header(path, lambda header: header.update(encoder=backbone))
    with pytest.raises(InputError, match="regex"):
        RealTimeMasker.load(path)


def test_weights_of_nan_are_refused(tmp_path):
    KINDS["masker with an encoder"].make(tmp_path)
    path = tmp_path / "m.safetensors"
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        texts = file.metadata()
    weights = load_file(path)
    weights["decoder.last.bias"] += torch.nan
    save_file(weights, path, texts)
    with pytest.raises(InputError, match=r"decoder.last.bias is .* expected finite numbers"):
        RealTimeMasker.load(path)


@pytest.mark.parametrize(
    "value", [5.0, *(pytest.param(x, marks=pytest.mark.slow) for x in (-1.0, float("nan")))]
)
def test_masks_outside_of_their_range_are_refused(tmp_path, value):
    run, explanation = tmp_path / "run", tmp_path / "explanation"
    saved = _explain(run)
    (shard,) = run.glob("blocks/*.safetensors")
    maps = load_file(shard)
    save_file(
        {key: torch.full_like(m, value, dtype=torch.float16) for key, m in maps.items()}, shard
    )
    with pytest.raises(InputError, match="holds NaN or values outside"):
        saved.mask(saved.names[0])
    KINDS["explanation"].make(explanation)
    tensors = load_file(explanation / "maps.safetensors")
    tensors["mask"] = torch.full_like(tensors["mask"], value)
    save_file(tensors, explanation / "maps.safetensors")
    with pytest.raises(InputError, match=r"maps.safetensors is damaged: mask returned"):
        Explanation.load(explanation)


def test_a_block_outside_of_the_run_is_no_block(tmp_path):
    _explain(tmp_path / "other")
    saved = _explain(tmp_path / "run")
    (block,) = (tmp_path / "run" / "blocks").glob("*.jsonl")
    lines = [json.loads(line) for line in block.read_text().splitlines()]
    lines[1]["block"] = "../../other/blocks/000000000-000000003.jsonl"
    block.write_text("\n".join(map(json.dumps, lines)))
    assert [row.block for row in saved.rows()] == [block.name] * 4
    row = replace(next(saved.rows()), block=lines[1]["block"])
    with pytest.raises(InputError, match="is not the name of a block"):
        saved.map_of(row)


# links


def test_nothing_is_written_through_a_link(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("precious")
    for name in ("rows.jsonl", "lock", "lock.json"):
        (tmp_path / name).symlink_to(outside)
    with pytest.raises(InputError, match=r"rows.jsonl is a link"):
        append_lines(tmp_path / "rows.jsonl", ["x"])
    with pytest.raises(InputError, match="is a link"), locked(tmp_path / "lock"):
        pass
    write_beside(tmp_path / "rows.jsonl", lambda beside: beside.write_text("new"))
    assert not (tmp_path / "rows.jsonl").is_symlink()
    assert outside.read_text() == "precious"


@pytest.mark.parametrize(
    "entry", ["overlays", "overlays/0000", "blocks", "blocks/000000000-000000003.jsonl"]
)
def test_a_run_directory_with_a_link_is_refused(tmp_path, entry):
    (tmp_path / "outside").mkdir()
    run = tmp_path / "run"
    (run / entry).parent.mkdir(parents=True)
    (run / entry).symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match=f"{entry} is a link"):
        explain_dataset(black_box(), _pairs(), masker="center-box", output_dir=run, overlays=2)
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize("entry", ["images", "masks/center-box", "rows.jsonl"])
def test_an_evaluation_with_a_link_is_refused(tmp_path, entry):
    (tmp_path / "outside").mkdir()
    run = tmp_path / "run"
    (run / entry).parent.mkdir(parents=True)
    (run / entry).symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match=f"{entry} is a link"):
        evaluate(black_box(), ["center-box"], ["insertion:steps=2"], _pairs(), output_dir=run)
    assert not list((tmp_path / "outside").iterdir())


def test_a_run_directory_may_be_a_link_itself(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    assert len(_explain(tmp_path / "run")) == 4


# images


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *chunks):
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", size), *chunks, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


ZEROS = zlib.compress(bytes(2**27))


@pytest.mark.parametrize(
    "content",
    [
        png(60_000, 60_000, chunk(b"IDAT", ZEROS)),
        png(2**31 - 1, 2**31 - 1, chunk(b"IDAT", ZEROS)),
        png(0, 0, chunk(b"IDAT", b"")),
        png(4, 4, chunk(b"zTXt", b"a\0\0" + ZEROS), chunk(b"IDAT", b"")),
        png(4, 4, chunk(b"iCCP", b"a\0\0" + ZEROS), chunk(b"IDAT", b"")),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n",
    ],
    ids=["many pixels", "more pixels", "none", "text bomb", "profile bomb", "EPS"],
)
def test_bombs_and_programs_are_no_images(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png"):
        as_images(path, black_box())


@pytest.mark.parametrize(
    "name", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "TGA", "JPEG2000"]
)
def test_the_usual_formats_are_read(tmp_path, name):
    path = tmp_path / "a.img"
    Image.new("RGB", (20, 16), (200, 10, 10)).save(path, format=name)
    assert as_images(path, black_box()).images.shape == (1, 3, 16, 16)


def test_devices_and_pipes_in_a_list_are_rows_with_a_reason(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "d.csv").write_text("path\n/dev/zero\npipe\na\0b\n" + "x" * 5000 + "\n")
    batches = list(Dataset.open(tmp_path / "d.csv", black_box(), use_labels=False).batches(2))
    assert [bool(batch.failure) for batch in batches] == [True] * 4


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "no/such", ""])
def test_a_path_that_cannot_be_is_one_line(tmp_path, name):
    with pytest.raises(InputError, match=r"no file|cannot be read|folder"):
        as_images(str(tmp_path / name), black_box())
