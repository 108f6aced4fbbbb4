"""TrainedFile: a trained masker on disk that a plugin provides by name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from saliencykit.core.black_box import BlackBox
from saliencykit.core.masker import TrainedMaskerFactory
from saliencykit.maskers.realtime.masker_file import read_metadata
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.networks.model_fingerprint import count_values, fingerprint


@final
@dataclass(frozen=True)
class TrainedFile(TrainedMaskerFactory):
    """A masker in a file, trained for one model and used by default where that is explained.

    Args:
        path: The safetensors file.
    """

    path: Path

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the file: training, validation, fingerprint."""
        return read_metadata(self.path)

    def fits(self, black_box: BlackBox) -> bool:
        """Was the masker trained for exactly these weights?

        Args:
            black_box: Its model is compared by size, then by fingerprint.
        """
        metadata = self.metadata
        if not metadata.get("fingerprint") or metadata.get("values") != count_values(black_box):
            return False
        return bool(metadata["fingerprint"] == fingerprint(black_box))

    def __call__(self) -> RealTimeMasker:
        """The masker; it is bound when it meets its black box."""
        return RealTimeMasker.load(self.path)
