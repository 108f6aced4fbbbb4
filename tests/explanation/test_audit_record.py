"""Audit records: what explanations rest on, and whether their files changed since."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from saliencykit import Explanation, InputError, explain, explain_dataset
from saliencykit.cli.main import app
from saliencykit.explanation import AuditRecord, audit
from saliencykit.testing import PlantedEvidence

MASKER = "rise:samples=64"
REPORT = {
    "model": "m", "masker": "edges", "num_images": 3, "passed": False, "skipped": {},
    "results": {"wrong-label": {"line": "wrong-label: FAIL", "rule": "half", "passed": False}},
}  # fmt: skip


@pytest.fixture
def explanation() -> Explanation:
    black_box = PlantedEvidence()
    images, labels = black_box.examples(2, generator=torch.Generator().manual_seed(0))
    return explain(black_box, images, labels, masker=MASKER)


@pytest.fixture
def folder(explanation: Explanation, tmp_path: Path) -> Path:
    return explanation.save(tmp_path / "one", audit=True)


def test_the_record_names_verdicts_model_masker_and_versions(
    folder: Path, explanation: Explanation
) -> None:
    facts = AuditRecord.load(folder).facts
    assert facts["verdicts"] == [str(each) for each in explanation.verdicts or ()]
    assert facts["captions"][1] == explanation.caption(1)
    assert facts["model"]["fingerprint"] == explanation.provenance["fingerprint"]
    assert facts["masker"].startswith("Rise")
    assert {"saliencykit", "torch", "python", "platform"} <= set(facts["versions"])


def test_the_seal_is_the_chain_of_the_hashes_by_hand(folder: Path) -> None:
    record = json.loads((folder / "audit.json").read_text())

    def digest(value: object) -> str:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    link = digest(record["facts"])
    for path in sorted(path for path in folder.iterdir() if path.name != "audit.json"):
        content = path.read_bytes()
        link = digest([link, path.name, len(content), hashlib.sha256(content).hexdigest()])
    assert AuditRecord.load(folder).seal == link
    assert AuditRecord.load(folder).problems(link) == ()


@pytest.mark.parametrize("name", ["overlay-0001.png", "maps.safetensors", "manifest.json"])
def test_every_changed_missing_and_new_file_is_named(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    (folder / "overlay-0000.png").unlink()
    (folder / "sub").mkdir()
    (folder / "sub" / "new.txt").write_text("new")
    assert set(AuditRecord.load(folder).problems()) == {
        f"{name} was changed", "overlay-0000.png is missing", "sub/new.txt is not in the record",
    }  # fmt: skip


def test_a_changed_record_is_noticed_and_a_new_one_has_another_seal(folder: Path) -> None:
    seal = AuditRecord.load(folder).seal
    path = folder / "audit.json"
    path.write_text(path.read_text().replace('"torch"', '"torsch"', 1))
    assert "the record itself was changed" in AuditRecord.load(folder).problems()[0]
    audit(folder, sanity=REPORT)
    assert AuditRecord.load(folder).problems() == ()
    assert "has the seal" in AuditRecord.load(folder).problems(seal)[0]


@pytest.mark.parametrize("damaged", ["[]", "{", '{"format": "saliencykit-audit"}', "link"])
def test_a_damaged_record_is_one_line(folder: Path, damaged: str) -> None:
    record = json.loads((folder / "audit.json").read_text())
    record["files"][0]["link"] = "../x"
    text = json.dumps(record) if damaged == "link" else damaged
    (folder / "audit.json").write_text(text)
    with pytest.raises(InputError, match=r"audit.json"):
        AuditRecord.load(folder)


def test_a_link_is_no_file_of_the_bundle(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("text")
    (folder / "link.txt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link; copy the file"):
        AuditRecord.load(folder).problems()


def test_a_run_is_sealed_with_its_counts_and_sanity_checks(tmp_path: Path) -> None:
    black_box = PlantedEvidence()
    images, labels = black_box.examples(3, generator=torch.Generator().manual_seed(0))
    pairs = list(zip(images, labels.tolist(), strict=True))
    explain_dataset(black_box, pairs, masker=MASKER, output_dir=tmp_path / "run")
    record = audit(tmp_path / "run", sanity=REPORT)
    assert (record.facts["subject"], record.facts["images"]) == ("run", 3)
    assert sum(record.facts["verdicts"].values()) == 3
    assert record.facts["sanity"] == REPORT
    assert "lock" not in {each.name for each in record.files}
    assert AuditRecord.load(tmp_path / "run").problems(record.seal[:12]) == ()


def test_sanity_checks_that_are_none_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"sanity= is damaged.*`model`"):
        audit(folder, sanity={"passed": True})
    with pytest.raises(InputError, match="sanity-check --output"):
        audit(folder, sanity=tmp_path / "none.json")


def test_the_command_seals_and_verifies(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sanity.json").write_text(json.dumps(REPORT))
    run = CliRunner().invoke
    written = run(app, ["audit", str(folder), "--sanity", str(tmp_path / "sanity.json")])
    assert "sanity checks: FAILED" in written.output
    seal = AuditRecord.load(folder).seal
    good = run(app, ["audit", str(folder), "--verify", "--seal", seal[:16]])
    assert (good.exit_code, "files are as recorded" in good.output) == (0, True)
    (folder / "overlay-0000.png").write_bytes(b"")
    bad = run(app, ["audit", str(folder), "--verify"])
    assert (bad.exit_code, "overlay-0000.png was changed" in bad.output) == (1, True)
