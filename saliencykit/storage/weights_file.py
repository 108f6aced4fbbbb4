"""Weights on disk: safetensors in half precision, with a JSON header."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from saliencykit.core.errors import InputError
from saliencykit.storage.atomic_files import write_beside


@final
@dataclass(frozen=True)
class WeightsFile:
    """One kind of file: its header, and the errors for other files.

    Args:
        kind: What it contains: `masker`, for example.
        number: The format version.
        command: The command that writes one: `fit`.
        otherwise: A hint for a safetensors file of another kind.

    Example:
        >>> import tempfile, torch
        >>> files = WeightsFile("masker", 1, "fit", "a classifier's weights go to checkpoint=")
        >>> path = Path(tempfile.mkdtemp()) / "m.safetensors"
        >>> files.write(path, {"w": torch.ones(2, 2)}, {"facts": {}})
        >>> files.header(path)
        {'format': 1, 'facts': {}}
    """

    kind: str
    number: int
    command: str
    otherwise: str

    def write(self, path: Path, weights: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
        """Write weights and header; an existing file is replaced completely or not at all.

        Matrices and larger are rounded to half precision; scalars, vectors and whole numbers stay
        as they are.

        Raises:
            SaliencyKitError: The file cannot be written.
        """
        held = {name: tensor.detach().cpu() for name, tensor in weights.items()}
        small = {
            n: (t.half() if t.is_floating_point() and t.ndim > 1 else t).contiguous().clone()
            for n, t in held.items()
        }
        data = save(small, metadata={self._key: json.dumps({"format": self.number} | dict(header))})
        write_beside(path, lambda beside: beside.write_bytes(data), advice="")

    def header(self, path: Path) -> dict[str, Any]:
        """The JSON header; no weights are read.

        Raises:
            InputError: There is no such file, it is damaged, of another kind, or of an unknown
                format.
        """
        if not path.is_file():
            raise InputError(
                f"there is no file {str(path)!r}; `saliencykit {self.command} --output "
                f"{path.name}` writes one."
            )
        try:
            path.open("rb").close()  # safetensors reports a file without permission as missing
            with safe_open(path, framework="pt") as file:
                text = (file.metadata() or {}).get(self._key)
        except OSError as error:
            raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
        except Exception as error:
            raise InputError(f"{str(path)!r} is not a valid safetensors file: {error}.") from error
        if text is None:
            raise InputError(
                f"{str(path)!r} does not contain a saliencykit {self.kind}; {self.otherwise}."
            )
        try:
            header = json.loads(text)
            number = header["format"]
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"the header of {str(path)!r} is damaged: {error}.") from error
        if number != self.number:
            raise InputError(
                f"{str(path)!r} has format {number} and this version of saliencykit reads "
                f"{self.number}; update saliencykit."
            )
        return dict(header)

    @property
    def _key(self) -> str:
        return f"saliencykit-{self.kind}"
