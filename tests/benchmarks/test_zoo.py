"""The tables of the zoo's maskers: thresholds of the tuning rows, sizes, paired differences."""

import json

import torch
from safetensors.torch import save_file

from benchmarks.localization import CUTS, HALF, MODES
from benchmarks.scoring import AREAS, UNSEEN
from benchmarks.zoo import OURS, zoo_tables

BEST = 3  # the threshold that is right


def box_row(photo, method, hit):
    overlap = [0.9 if hit and index in (BEST, HALF) else 0.1 for index in range(len(CUTS))]
    object_area = 0.1 if photo < 2 else 0.3
    facts = {"photo": f"{photo}.jpg", "method": method, "object": object_area, "few": False}
    return facts | {"overlap": dict.fromkeys(MODES, overlap)}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_tables_hold_errors_by_size_and_paired_differences(tmp_path):
    tune = [box_row(photo, method, True) for photo in range(4) for method in ("cam", OURS)]
    report = [box_row(photo, "cam", photo >= 2) for photo in range(8)]
    report += [box_row(photo, OURS, photo >= 1) | {"learned": 0.6} for photo in range(8)]
    write(tmp_path / "mobilenet_v2-tune.jsonl", tune)
    write(tmp_path / "mobilenet_v2-report.jsonl", report)
    areas = {f"{fill}/{area}": [0.5, 0.3] for fill in UNSEEN for area in AREAS}
    facts = {"photo": "0.jpg", "method": OURS, "areas": areas, "searched": [[0.5, -1.0, 1]]}
    never = facts | {"photo": "1.jpg", "regions": [0.75, None]}
    write(tmp_path / "squeezenet-areas.jsonl", [facts | {"regions": [0.25, 0.125]}, never])
    write(tmp_path / "squeezenet-search.jsonl", [facts])
    boxes, search, evidence, regions = zoo_tables(tmp_path).split("###")[1:]
    ours, learned, cam = [
        line.split(" | ") for line in boxes.splitlines() if "mobilenet_v2" in line
    ]
    assert learned[1] == f"{OURS}, learned thresholds"
    assert learned[3].split()[0] == learned[5].split()[0] == "0.0"
    assert [ours[1], cam[1]] == [OURS, "cam"]
    assert [cells[2] for cells in (ours, cam)] == ["8; 4", "8; 4"]
    assert [cells[3].split()[0] for cells in (ours, cam)] == ["12.5", "25.0"]
    assert [cam[4].split()[0], cam[6].split()[0]] == ["-12.5", "-12.5"]
    assert [cells[7] for cells in (ours, cam)] == ["50 / 0 / - / -", "100 / 0 / - / -"]
    assert f"| squeezenet | {OURS} | 1 | 0.307 [" in search
    assert f"| squeezenet | {OURS} | 2 | 0.200 [" in evidence
    (row,) = [line.split(" | ") for line in regions.splitlines() if OURS in line]
    assert [row[2], row[3].split()[0]] == ["2", "0.500"]
    assert [row[5], row[6].split()[0]] == ["1", "0.125"]


def test_trainings_and_probes_are_read_from_files(tmp_path):
    taught = {"teacher": "cam", "pastes": 7, "score before": 0.5}
    training = {"schedule": {"mixing_steps": 3, "distill_steps": "4"}, "seconds": 120.0}
    for name, more in (("one", {"distillation": taught}), ("two", {})):
        about = {"training": training | more, "validation": {"score": 0.75}}
        text = json.dumps({"metadata": about})
        path = tmp_path / f"{name}_masker.safetensors"
        save_file({"a": torch.zeros(1)}, path, {"saliencykit-masker": text})
    probe = {"photo": "predicted", "method": OURS, "n": 9, "cells": "0.3 | 1 | 2 | -1"}
    write(tmp_path / "squeezenet-encoding.jsonl", [probe])
    text = zoo_tables(tmp_path, tmp_path)
    assert "| one | 3 / 4 / 0 | 2 | cam; 7 | 0.500, 0.750 | - |" in text
    assert "| two | 3 / 4 / 0 | 2 | - | 0.750 | - |" in text
    assert "| squeezenet | predicted | 9 | 0.3 | 1 | 2 | -1 |" in text
