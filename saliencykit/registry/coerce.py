"""Coercions: what a user gives (an object, a name, a file) becomes the object that is meant."""

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from saliencykit.black_boxes.function import FunctionBlackBox
from saliencykit.black_boxes.unsupported_files import unsupported_model_hint
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of, reason_of
from saliencykit.core.errors import ContractError, InputError, RegistryError
from saliencykit.core.masker import Masker, TrainedMaskerFactory
from saliencykit.core.metric import Metric
from saliencykit.core.objective import Objective, Term
from saliencykit.core.output import Output
from saliencykit.maskers.certificate import Certificate
from saliencykit.maskers.certified import FORMAT, Certified, CertifiedMethod
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.registry.listing import list_models
from saliencykit.registry.manager import KINDS, Kind, did_you_mean, registry, short_name
from saliencykit.storage.locations import local_copy
from saliencykit.storage.manifest import read_manifest
from saliencykit.storage.typed_json import typed
from saliencykit.terms.presets import PRESETS


def as_black_box(model: object, output: Output | None = None) -> BlackBox:
    """A BlackBox from a BlackBox, a name (`timm:resnet18`), a file that a plugin reads
    (`model.onnx`), a model or a function.

    Args:
        model: One of these.
        output: What a column of its output means: `softmax`, `sigmoid` or `score`. None: what the
            black box says, `softmax` for a model.

    Raises:
        RegistryError: The name is unknown, or no installed plugin reads this file or address.
        InputError: No plugin knows this kind of object, or the black box says itself what its
            output means.
    """
    black_box = _black_box(model)
    if output in (None, black_box.output):
        return black_box
    if "output" not in getattr(black_box, "__dataclass_fields__", ()):
        raise InputError(
            f"{name_of(black_box)} says itself that its output is {black_box.output!r}; leave out "
            f"output={output!r}, or set the attribute `output` of the class."
        )
    options: dict[str, Any] = {"output": output}
    if isinstance(black_box, FunctionBlackBox):
        options["num_classes"] = None  # known after the first query
    return cast(BlackBox, replace(cast(Any, black_box), **options))


def _black_box(model: object) -> BlackBox:
    if isinstance(model, BlackBox):
        return model
    if isinstance(model, str):
        model = local_copy(model)
        known = _is_known("black_box", model)
        black_box = None if known else registry().wrap(model)
        words = None if known or black_box else unsupported_model_hint(model)
        if words:
            path = Path(model.rpartition(":")[2])
            here = "://" in model or path.is_file()
            missing = "" if here else f"there is no file {str(path)!r}, and "
            raise RegistryError(
                f"{missing}no plugin reads the model {model!r}: {words}.{registry().left_out()}"
            )
        try:
            return black_box or cast(BlackBox, create("black_box", model))
        except RegistryError as error:
            library = None if known else _library_of(model)
            if library is None:
                raise
            raise RegistryError(f"{error} Write {library + ':' + model!r}.") from error
    black_box = registry().wrap(model)
    if black_box is None:
        raise InputError(
            f"{name_of(model)} is not a classifier that saliencykit knows. Give a torch "
            "nn.Module, a function from numpy (B, H, W, C) to (B, K), a name like "
            "'timm:resnet18' or 'transformers:google/vit-base-patch16-224', or an object derived "
            "from saliencykit.BlackBox."
        )
    return black_box


def as_masker(masker: Masker | str) -> Masker:
    """A Masker from a Masker, a text like `rise:samples=500`, or the file of a trained or certified
    one, `my-masker.safetensors` or `certified.json`.

    Args:
        masker: One of these.
    """
    is_file = isinstance(masker, str) and masker.endswith((".safetensors", ".json"))
    if is_file and not _is_known("masker", str(masker)):
        return _from_file(local_copy(str(masker)))
    return cast(Masker, _coerced(masker, "masker"))


def _from_file(path: str) -> Masker:
    """A trained masker, with its certificate where it has one; or a method with a certificate."""
    if path.endswith(".safetensors"):
        trained = RealTimeMasker.load(path)
        facts = trained.metadata.get("certificate")
        if facts is None:
            return trained
        return Certified(masker=trained, certificate=typed(facts, Certificate, path))
    file = Path(path).expanduser()
    read = read_manifest(file, "certified masker", CertifiedMethod, format=FORMAT)
    method = typed(read, CertifiedMethod, file)
    return Certified(
        masker=as_masker(method.masker), certificate=method.certificate, text=method.masker
    )


def trained_masker(black_box: BlackBox) -> Masker | None:
    """The trained masker that a plugin provides for exactly this model's weights, or None.

    Args:
        black_box: The model; its classes are explained, so that there is none for a target.
    """
    if black_box.target is not None:
        return None
    for full, factory in registry().names("masker").items():
        try:
            if isinstance(factory, TrainedMaskerFactory) and factory.fits(black_box):
                return _made_by(factory)
        except (Exception, SystemExit) as error:  # a broken plugin never breaks the host
            reason = reason_of(error)
            warnings.warn(f"the trained masker {full} cannot be used: {reason}", stacklevel=3)
    return None


def _made_by(factory: TrainedMaskerFactory) -> Masker:
    masker: object = factory()
    if isinstance(masker, Masker):
        return masker
    raise ContractError(f"its factory returned {name_of(masker)}; expected a Masker.")


def as_alternative(alternative: Alternative | str) -> Alternative:
    """An Alternative from an Alternative or a text like `blur:sigma=11`.

    Args:
        alternative: One of these.
    """
    return cast(Alternative, _coerced(alternative, "alternative"))


def as_metric(metric: Metric | str) -> Metric:
    """A Metric from a Metric or a text like `insertion:steps=10`.

    Args:
        metric: One of these.
    """
    return cast(Metric, _coerced(metric, "metric"))


def as_objective(objective: Objective | str) -> Objective:
    """An Objective from an Objective, a preset's name (`paper-mean`), or terms joined by `+`:
    `area:weight=8+destroyed-margin`.

    Args:
        objective: One of these.

    Raises:
        InputError: It is neither an Objective nor a text.
        RegistryError: The name is unknown.
    """
    if isinstance(objective, Objective):
        return objective
    if not isinstance(objective, str):
        raise InputError(f"an objective must be an Objective or a text; got {name_of(objective)}.")
    if objective in PRESETS:
        return PRESETS[objective]()
    known = [short_name(full) for full in registry().names("term")]
    if "+" not in objective and ":" not in objective and objective not in known:
        raise RegistryError(
            f"unknown objective {objective!r}.{did_you_mean(objective, [*PRESETS, *known])} "
            f"Presets: {', '.join(PRESETS)}; or terms joined by '+': {', '.join(known)}."
        )
    terms = (cast(Term, create("term", part.strip())) for part in objective.split("+"))
    return Objective(tuple(terms))


def create(kind: Kind, text: str) -> Any:
    """`Registry.create` of the process's registry, where arguments may be texts in turn:
    `iterative:alternative=blur:sigma=3`.

    Args:
        kind: `black_box`, `alternative`, `term`, `masker` or `metric`.
        text: A name with options, `name:key=value,...`.
    """
    return registry().create(kind, text, _MAKERS)


def _is_known(kind: Kind, text: str) -> bool:
    """Does a text begin with a name of this kind? If not, it may be a file's path."""
    name = text.partition(":")[0].strip()
    return any(name in (full, short_name(full)) for full in registry().names(kind))


def _library_of(text: str) -> str | None:
    """The library that has a model of this name, which was written without it."""
    name = text.partition(",")[0].strip()
    for library in ("timm", "torchvision"):
        try:
            if list_models(f"{library}:{name.partition('.')[0]}"):
                return library
        except InputError:  # timm is not installed
            continue
    return "transformers" if re.fullmatch(r"[\w.-]+/[\w.-]+", name) else None


def _coerced(thing: object, kind: Kind) -> object:
    if isinstance(thing, KINDS[kind]):
        return thing
    if isinstance(thing, str):
        return create(kind, thing)
    names = ", ".join(short_name(full) for full in list(registry().names(kind))[:3])
    raise InputError(
        f"{name_of(thing)} is no {kind.replace('_', ' ')}: give an object derived from "
        f"{KINDS[kind].__name__}, or a name with options or without, such as {names}."
    )


_MAKERS: Mapping[type, Callable[[str], Any]] = {
    Alternative: as_alternative,
    Objective: as_objective,
    BlackBox: as_black_box,
    Masker: as_masker,
}
"""How a text inside another one is read, by the type of the argument that it is for."""
