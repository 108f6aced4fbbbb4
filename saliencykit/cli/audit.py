"""The command audit: seal the files of an explanation or a run, or check that none has changed."""

from pathlib import Path
from typing import Annotated, Any

import typer

from saliencykit.cli import workflows
from saliencykit.cli.console import complain, say
from saliencykit.core.errors import InputError


def audit(
    directory: Annotated[Path, typer.Argument()],
    sanity: Path | None = None,
    verify: bool = False,
    seal: str | None = None,
) -> None:
    """Record what explanations rest on, and seal their files; --verify lists changed files.

    Args:
        directory: The --output of explain: one explanation, or a run.
        sanity: The --output of sanity-check for the same model and masker.
        verify: Check the files against the record.
        seal: With --verify: the seal that you kept elsewhere.
    """
    if verify:
        if sanity is not None:
            raise InputError("--sanity goes into a new record; leave it out with --verify.")
        _verify(workflows.AuditRecord.load(directory), seal)
        return
    if seal is not None:
        raise InputError("--seal is compared; write --verify --seal.")
    record = workflows.audit(directory, sanity=sanity)
    facts = record.facts
    say(f"{facts['subject']} of {facts['images']} image(s), {len(record.files)} files")
    mark = (facts["model"] or {}).get("fingerprint")
    say(f"fingerprint of the model: {mark or 'none, its weights cannot be read'}")
    say(f"masker: {facts['masker']}")
    say(f"sanity checks: {_outcome(facts['sanity'])}")
    say(f"seal: {record.seal}")
    say(f"keep the seal; check: saliencykit audit {directory} --verify --seal {record.seal[:16]}")


def _outcome(report: dict[str, Any] | None) -> str:
    if report is None:
        return "none; write them with saliencykit sanity-check --output, add them with --sanity"
    return {True: "passed", False: "FAILED", None: "unclear"}[report["passed"]]


def _verify(record: "workflows.AuditRecord", seal: str | None) -> None:
    problems = record.problems(seal)
    for each in problems:
        complain(each)
    if problems:
        complain(f"{record.directory} is not as it was recorded on {record.facts.get('written')}.")
        raise typer.Exit(1)
    say(f"{len(record.files)} files are as recorded on {record.facts.get('written')}")
    if seal is None:
        say(f"seal: {record.seal}; compare it with the one that you kept (--seal)")
