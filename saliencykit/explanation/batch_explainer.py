"""BatchExplainer: a batch of images in, a batch of results out, wherever an engine calls it."""

import functools
import importlib
import inspect
import io
import pickle
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, final

from PIL import Image
from torch import Tensor

from saliencykit.core import checks, rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.checks import name_of, reason_of
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.data.batch_columns import batch_records, with_columns
from saliencykit.data.batches import in_blocks
from saliencykit.data.dataset import Dataset
from saliencykit.data.record import Label
from saliencykit.explanation.dataset_worker import Explained, Worker

_COLUMNS = {
    "label": "int64", "label_name": "string", "probability": "double", "kept": "double",
    "dropped": "double", "area": "double", "verdict": "string", "height": "int64", "width": "int64",
    "mask": "binary", "failure": "string",
}  # fmt: skip


@final
@dataclass(frozen=True)
class BatchExplainer:
    """Explains batches of images for an engine that distributes them: Ray Data, Hugging Face
    `datasets.map`, Spark, a job array.

    It can be pickled; the model is loaded when a process explains its first batch. A row depends on
    its image and the seed, and is the one that `explain_dataset` writes. An image that cannot be
    explained is a row with its failure.

    A batch is a mapping of columns, a pandas DataFrame, or an Arrow table or record batch; the
    result is one of the same type. In: `image` (paths, bytes of image files, arrays, PIL images),
    and optionally `label` and `id`, which names the image in messages. Out: all other columns of
    the batch, and

    - `label`, `label_name`: the explained class;
    - `probability`, `kept`, `dropped`: of that class, for the whole image, the mask's pixels alone,
      and the image without them; `verdict`: what they show, see `core.Verdict`;
    - `area`: mean of the mask, in [0, 1];
    - `mask`: as the bytes of an 8-bit PNG at the masker's own resolution, accurate to 1/510;
      `height`, `width`: of the model's input, to which the mask is resized;
    - `failure`: why there is no mask.

    Where there is no value, Arrow has a null; other batches have -1, NaN, "" or b"".

    Args:
        model: As for `explain`; or a function without arguments that returns one, to load it in
            each process on the device of its choice.
        masker: As for `explain`.
        budget: As for `explain`.
        alternative: As for `explain`.
        label: The class to explain for all images: an index, a name, or `top` for the model's top
            class. None: the column `label`, or the top class where it gives none.
        classes: The data set's class names and their indices in the model, where these are not the
            model's own names.
        verify: Query the model with the mask kept and with the mask replaced: two more passes.
        seed: Random seed, >= 0.
        batch_size: Images that go through the model together, >= 1; batches may be larger.

    Raises:
        InputError: An argument or a batch cannot be used, or the model cannot be pickled.
        DeviceMemoryError: The device's memory is too small for `batch_size` images.

    Example:
        >>> import torch
        >>> from saliencykit.testing import PlantedEvidence
        >>> explainer = BatchExplainer(PlantedEvidence(), masker="center-box")
        >>> images = [torch.zeros(3, 16, 16), b"no image"]
        >>> batch = explainer({"image": images, "id": ["a", "b"], "label": [2, 2]})
        >>> batch["label"].tolist(), batch["area"].round(2).tolist(), batch["mask"][0][1:4]
        ([2, -1], [0.47, nan], b'PNG')
    """

    model: object = "demo"
    _: KW_ONLY
    masker: Masker | str | None = None
    budget: float | None = None
    alternative: Alternative | str | None = None
    label: Label | None = None
    classes: Mapping[str, int] | None = None
    verify: bool = True
    seed: int = 0
    batch_size: int = 16

    def __post_init__(self) -> None:
        checks.seed(self.seed, "BatchExplainer")
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise InputError(f"BatchExplainer(batch_size={self.batch_size!r}): an integer >= 1.")

    def __call__(self, batch: Any) -> Any:
        """The batch with the results in place of the images."""
        records, worker = list(batch_records(batch)), self._worker
        black_box = worker.black_box.black_box
        use_labels = self.label is None
        images = Dataset(records, black_box, classes=self.classes, use_labels=use_labels)
        with rng.isolated(black_box.device):
            explained = [
                each
                for block in in_blocks(images.load(), self.batch_size)
                for each in worker.explain(block)
            ]
        rows = list(map(_columns, explained))
        return with_columns(
            batch, {name: (kind, [row[name] for row in rows]) for name, kind in _COLUMNS.items()}
        )

    @functools.cached_property
    def _worker(self) -> Worker:
        options = {name: value for name, value in self._options().items() if name != "batch_size"}
        model = options.pop("model")
        return Worker.of(model() if _is_factory(model) else model, **options)

    def _options(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __getstate__(self) -> dict[str, Any]:
        """The arguments: what was loaded stays in its process."""
        return {name: _portable(value, name) for name, value in self._options().items()}


def _columns(explained: Explained) -> dict[str, Any]:
    """The values of one row of a batch."""
    row, (height, width) = explained.row, explained.row.size or (None, None)
    named = {name: getattr(row, name, None) for name in _COLUMNS}
    mask = None if explained.map is None else _png(explained.map)
    verdict = None if row.verdict is None else str(row.verdict)
    return named | {"height": height, "width": width, "mask": mask, "verdict": verdict}


def _png(map_: Tensor) -> bytes:
    file = io.BytesIO()
    Image.fromarray(map_.numpy()).save(file, format="PNG")
    return file.getvalue()


def _is_factory(model: object) -> bool:
    """Whether a model is a function that makes one: it can be called without an image."""
    if not (
        inspect.isroutine(model) or inspect.isclass(model) or isinstance(model, functools.partial)
    ):
        return False
    try:
        inspect.signature(model).bind()
    except (TypeError, ValueError):
        return False
    return True


@dataclass(frozen=True)
class _Pickled:
    """A value as bytes, which is the value itself again when these are read."""

    read: Callable[[bytes], Any]
    content: bytes

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return self.read, (self.content,)


def _portable(value: object, name: str) -> object:
    """The value, or its bytes where only the pickle of an engine can write it.

    Raises:
        InputError: None can.
    """
    try:
        pickle.dumps(value)
        return value
    except Exception as error:
        for library in ("cloudpickle", "dill"):  # of Ray and Spark, of Hugging Face
            try:
                engine = importlib.import_module(library)
                return _Pickled(engine.loads, engine.dumps(value))
            except Exception:  # not installed, or it cannot either
                continue
        advice = (
            "Give its name, model='timm:resnet18', or a function of a module that loads it there, "
            "model=load, with def load(): return ..."
            if name == "model"
            else f"Write {name}='...', a name with options."
        )
        raise InputError(
            f"{name}={name_of(value)} cannot be sent to another process ({reason_of(error)}). "
            f"{advice}"
        ) from error
