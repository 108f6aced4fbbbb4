"""audit(): write down what a saved explanation or a run rests on, and seal its files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saliencykit.explanation.audit_record import AuditRecord, write_record
from saliencykit.explanation.result import Explanation
from saliencykit.storage.run_summary import summarize
from saliencykit.storage.saved_explanations import SavedExplanations, is_saved


def audit(
    directory: str | Path, *, sanity: Mapping[str, Any] | str | Path | None = None
) -> AuditRecord:
    """Write `audit.json` into a directory: what its explanations rest on, and a seal of its files.

    Args:
        directory: Of `Explanation.save`, or a run directory of `explain_dataset`. A record in it is
            replaced.
        sanity: The results of sanity checks of this model and masker: `SanityReport.to_dict()`, or
            the JSON file that `saliencykit sanity-check --output` writes. Their model and masker
            are recorded with them.

    Returns:
        The record. Keep its `seal` where nobody who can write to the directory can change it.

    Raises:
        InputError: There are no explanations, they are damaged, or the sanity checks are not the
            ones of `SanityReport`.

    Example:
        >>> import tempfile, torch
        >>> from saliencykit import explain_dataset
        >>> from saliencykit.testing import PlantedEvidence
        >>> folder = tempfile.mkdtemp()
        >>> images = torch.rand(3, 3, 16, 16)
        >>> _ = explain_dataset(PlantedEvidence(), images, masker="center-box", output_dir=folder)
        >>> record = audit(folder)
        >>> record.facts["images"], len(record.seal)
        (3, 64)
    """
    directory = Path(directory).expanduser()
    if is_saved(directory):
        facts = _of_run(SavedExplanations.load(directory))
    else:
        facts = Explanation.load(directory).facts()
    return write_record(directory, facts, sanity)


def _of_run(saved: SavedExplanations) -> dict[str, Any]:
    summary = summarize(saved.rows()).facts()
    model = {name: saved.manifest.get(name) for name in ("model", "masker")}
    return {"subject": "run"} | summary | model | {"settings": saved.manifest}
