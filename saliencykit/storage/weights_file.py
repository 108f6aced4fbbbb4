"""Weights on disk: safetensors in half precision, with a JSON header."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, final

from safetensors.torch import save
from torch import Tensor

from saliencykit.core.errors import InputError
from saliencykit.core.regular_file import refuse_special_file
from saliencykit.storage.atomic_files import write_bytes
from saliencykit.storage.tensor_file import check_finite, read_tensors
from saliencykit.storage.typed_json import one_line, parse_json, typed

H = TypeVar("H")


@final
@dataclass(frozen=True)
class WeightsFile(Generic[H]):
    """One kind of file: its header, and the errors for other files.

    Args:
        kind: What it contains: `masker`, for example.
        number: The format version.
        header_type: The type of the header's fields, see `typed`.
        command: The command that writes one: `fit`.
        otherwise: A hint for a safetensors file of another kind.

    Example:
        >>> import tempfile, torch
        >>> files = WeightsFile("masker", 1, dict[str, int], "fit", "classifiers go to checkpoint=")
        >>> path = Path(tempfile.mkdtemp()) / "m.safetensors"
        >>> files.write(path, {"w": torch.ones(2, 2)}, {"steps": 3})
        >>> files.header(path)
        {'format': 1, 'steps': 3}
    """

    kind: str
    number: int
    header_type: type[H]
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
        write_bytes(path, data, advice="")

    def header(self, path: Path) -> H:
        """The header; no weights are read.

        Raises:
            InputError: There is no such file, it is damaged, of another kind, or of an unknown
                format.
        """
        refuse_special_file(path)
        if not path.is_file():
            raise InputError(
                f"there is no file {str(path)!r}; `saliencykit {self.command} --output "
                f"{path.name}` writes one."
            )
        text = read_tensors(path, weights=False)[1].get(self._key)
        if text is None:
            raise InputError(
                f"{str(path)!r} does not contain a saliencykit {self.kind}; {self.otherwise}."
            )
        where = f"the header of {str(path)!r}"
        header = typed(parse_json(text, where), dict[str, Any], where)
        if header.get("format") != self.number:
            raise InputError(
                f"{str(path)!r} has format {one_line(header.get('format'))} and this version of "
                f"saliencykit reads {self.number}; update saliencykit."
            )
        return typed(header, self.header_type, where)

    def read(self, path: Path) -> tuple[H, dict[str, Tensor]]:
        """Header and weights, the weights in float32.

        Raises:
            InputError: As of `header`; or a weight is NaN or infinite.
        """
        header, (weights, _) = self.header(path), read_tensors(path)
        check_finite(weights, path)
        return header, {n: t.float() if t.is_floating_point() else t for n, t in weights.items()}

    @property
    def _key(self) -> str:
        return f"saliencykit-{self.kind}"
