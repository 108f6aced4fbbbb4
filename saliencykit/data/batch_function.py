"""BatchFunction: a batch of images in, a batch of results out, wherever an engine calls it."""

import functools
import importlib
import inspect
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import Any, final

from saliencykit.black_boxes.pixel_range import with_pixel_range
from saliencykit.core import checks, rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of, reason_of
from saliencykit.core.errors import InputError
from saliencykit.data.batch_columns import batch_records, with_columns
from saliencykit.data.dataset import Dataset
from saliencykit.data.label_lookup import class_index
from saliencykit.data.record import Label, Record
from saliencykit.registry.coerce import as_black_box


@dataclass(frozen=True)
class BatchFunction(ABC):
    """A function of batches that can be pickled; each process loads the model at its first batch.

    A batch is a mapping of columns, a pandas DataFrame, or an Arrow table or record batch; the
    result is one of the same type, with the results in place of the images.

    Args:
        model: As for `explain`; or a function without arguments that returns one, to load it in
            each process on the device of its choice.
        label: The class for all images: an index, a name, or `top` for the model's top class. None:
            the column `label`, or the top class where it gives none.
        classes: The data set's class names and their indices in the model.
        pixel_range: As for `explain`.
        seed: Random seed, >= 0.
        batch_size: Images that go through the model together, >= 1; batches may be larger.

    Raises:
        InputError: An argument or a batch cannot be used, or the model cannot be pickled.
    """

    model: object = "demo"
    _: KW_ONLY
    label: Label | None = None
    classes: Mapping[str, int] | None = None
    pixel_range: tuple[float, float] | None = None
    seed: int = 0
    batch_size: int = 16

    def __post_init__(self) -> None:
        who = name_of(self)
        checks.seed(self.seed, who)
        checks.counts(who, batch_size=self.batch_size)

    @abstractmethod
    def columns(
        self, batch: Any, records: Sequence[Record]
    ) -> Mapping[str, tuple[str, Sequence[Any]]]:
        """The results, as `with_columns` takes them.

        Args:
            batch: As it was given, for further columns.
            records: Its images.
        """

    @final
    def __call__(self, batch: Any) -> Any:
        """The batch with the results in place of the images."""
        records = list(batch_records(batch))
        with rng.isolated(self.black_box.device):
            return with_columns(batch, self.columns(batch, records))

    @functools.cached_property
    def black_box(self) -> BlackBox:
        """The model, loaded in this process."""
        return with_pixel_range(as_black_box(loaded(self.model)), self.pixel_range)

    def images(self, records: Sequence[Record]) -> Dataset:
        """The images with the classes to explain."""
        if self.label is not None and self.label != "top":
            label = class_index(self.label, self.black_box, self.classes)
            records = [replace(record, label=label) for record in records]
        use_labels = self.label != "top"
        return Dataset(list(records), self.black_box, classes=self.classes, use_labels=use_labels)

    def __getstate__(self) -> dict[str, Any]:
        """The arguments: what was loaded stays in its process."""
        names = [field.name for field in fields(self)]
        return {name: _portable(getattr(self, name), name) for name in names}


def loaded(model: object) -> object:
    """A model, or what a function without arguments returns.

    Example:
        >>> loaded("demo"), loaded(lambda: "demo")
        ('demo', 'demo')
    """
    return model() if _is_factory(model) else model  # type: ignore[operator]


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
