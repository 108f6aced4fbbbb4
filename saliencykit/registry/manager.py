"""Names to objects. Owns the plugin manager.

One text form, on the command line and in provenance: `name`, `name:value`,
`name:key=value,key=value`, where the name is short (`blur`) or full (`saliencykit/blur`).
"""

import difflib
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, TypeAlias, cast, final

import pluggy

from saliencykit.black_boxes.unsupported_files import advice
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import ContractError, InputError, RegistryError, SaliencyKitError
from saliencykit.core.masker import Masker, TrainedMaskerFactory
from saliencykit.core.metric import Metric
from saliencykit.core.objective import Objective, Term
from saliencykit.registry import hookspecs
from saliencykit.registry.spec import Spec, build, parse

Kind: TypeAlias = Literal["black_box", "alternative", "term", "masker", "metric"]
KINDS: Mapping[Kind, type] = {
    "black_box": BlackBox,
    "alternative": Alternative,
    "term": Term,
    "masker": Masker,
    "metric": Metric,
}
_HOOKS = {"black_box": "provide_black_boxes"} | {
    kind: f"provide_{kind}s" for kind in KINDS if kind != "black_box"
}


@final
@dataclass
class PluginRecord:
    """What became of one plugin: its name, where it came from, and why it failed (empty if it
    works).
    """

    name: str
    origin: str
    failure: str = ""


@final
class Registry:
    """Everything that has a name. One per process, made at the first look-up; see `registry()`.

    Args:
        points: Entry points to load instead of the installed ones of the group `saliencykit` (for
            tests).
    """

    def __init__(self, points: list[EntryPoint] | None = None) -> None:
        from saliencykit.registry import builtins

        self.manager = pluggy.PluginManager("saliencykit")
        self.manager.add_hookspecs(hookspecs)
        self.plugins: list[PluginRecord] = []
        self._mappings: dict[tuple[str, str], Mapping[str, Callable[..., Any]]] = {}
        disabled = {
            name.strip() for name in os.environ.get("SALIENCYKIT_DISABLE", "").split(",")
        } - {""}
        self._admit("saliencykit", "built in", lambda: builtins)
        found = list(entry_points(group="saliencykit")) if points is None else points
        for point in sorted(found, key=lambda p: p.name):
            origin = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
            if point.name in disabled:
                self.plugins.append(
                    PluginRecord(point.name, origin, "disabled by SALIENCYKIT_DISABLE")
                )
            elif point.name == "local" or any(record.name == point.name for record in self.plugins):
                self._fail(PluginRecord(point.name, origin), "another plugin already has this name")
            else:
                self._admit(point.name, origin, point.load)

    def _admit(self, name: str, origin: str, load: Callable[[], object]) -> None:
        record = PluginRecord(name, origin)
        try:
            plugin = load()
            self.manager.register(plugin, name)
            self.manager.check_pending()
            for hook in (*_HOOKS.values(), "wrap_model"):
                if (
                    callable(getattr(plugin, hook, None))
                    and self.manager.parse_hookimpl_opts(plugin, hook) is None
                ):
                    raise ContractError(
                        f"{hook} is not marked as a hook; write @saliencykit.hookimpl above it"
                    )
        except (Exception, SystemExit) as error:  # a broken plugin never breaks the host
            self._fail(record, f"{type(error).__name__}: {error}")
        else:
            self.plugins.append(record)

    def _fail(self, record: PluginRecord, reason: str) -> None:
        plugin = self.manager.get_plugin(record.name)
        if plugin is not None and not any(
            r.name == record.name and not r.failure for r in self.plugins if r is not record
        ):
            self.manager.unregister(plugin)
        record.failure = reason
        if record not in self.plugins:
            self.plugins.append(record)
        warnings.warn(
            f"saliencykit: plugin {record.name!r} ({record.origin}) is left out: {reason}",
            stacklevel=2,
        )

    def names(self, kind: Kind) -> dict[str, Callable[..., Any]]:
        """Factories of one kind by full name, `plugin/name`; ours first.

        Args:
            kind: `black_box`, `alternative`, `term`, `masker` or `metric`.
        """
        hook = _HOOKS[kind]
        out: dict[str, Callable[..., Any]] = {}
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            plugin = implementation.plugin_name
            if (plugin, hook) not in self._mappings:
                try:
                    self._mappings[plugin, hook] = _checked(implementation.function())
                except (Exception, SystemExit) as error:
                    record = next(r for r in self.plugins if r.name == plugin)
                    self._fail(record, f"{hook}() raised {type(error).__name__}: {error}")
                    continue
            out |= {
                f"{plugin}/{name}": factory
                for name, factory in self._mappings[plugin, hook].items()
            }
        return dict(
            sorted(out.items(), key=lambda item: (not item[0].startswith("saliencykit/"), item[0]))
        )

    def find(self, kind: Kind, name: str) -> tuple[str, Callable[..., Any]]:
        """The full name and factory of a short or full name.

        Args:
            kind: As of `names`.
            name: `blur` or `saliencykit/blur`.

        Raises:
            RegistryError: No plugin provides it, or several do.
        """
        known = self.names(kind)
        matches = [full for full in known if full == name or full.split("/", 1)[1] == name]
        if len(matches) == 1:
            return matches[0], known[matches[0]]
        noun = kind.replace("_", " ")
        if matches:
            raise RegistryError(
                f"several plugins provide the {noun} {name!r}; write one of {', '.join(matches)}."
            )
        short = {full.split("/", 1)[1] for full in known}
        near = difflib.get_close_matches(name, [*short, *known], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise RegistryError(
            f"no {noun} is called {name!r}.{hint} Known: {', '.join(known)}.{self.left_out()}"
        )

    def left_out(self) -> str:
        """The plugins that could not be used, with the reason of each, as the end of a message;
        empty if there are none.
        """
        broken = [f"{r.name} ({r.failure})" for r in self.plugins if r.failure]
        return f" Plugins left out: {'; '.join(broken)}." if broken else ""

    def create(self, kind: Kind, text: str) -> Any:
        """The object that a text names, checked to be of its kind.

        Args:
            kind: As of `names`.
            text: A name, with arguments or without: `blur:sigma=11`.

        Raises:
            RegistryError: The name is unknown or ambiguous, or its factory cannot be imported.
            InputError: The arguments do not fit the factory.
            ContractError: The factory made something else.
        """
        spec = parse(text)
        full, factory = self.find(kind, spec.name)
        thing = build(Spec(full, spec.values, spec.options), factory, _MAKERS)
        if not isinstance(thing, KINDS[kind]):
            raise ContractError(
                f"the factory of {full} returned {name_of(thing)}; expected a "
                f"{KINDS[kind].__name__}."
            )
        return thing

    def register(self, name: str, factory: Callable[..., Any]) -> str:
        """Give one of your own parts a name, `local/name`; the kind is read from the factory's base
        class.

        Args:
            name: Letters, digits, `-` and `_`.
            factory: A class derived from a contract.

        Returns:
            The full name.

        Raises:
            InputError: The factory is not a class derived from a contract, or the name is taken or
                malformed.
        """
        kinds = [
            kind
            for kind, base in KINDS.items()
            if isinstance(factory, type) and issubclass(factory, base)
        ]
        if not kinds:
            wanted = ", ".join(base.__name__ for base in KINDS.values())
            raise InputError(
                f"register({name!r}, ...) takes a class derived from one of {wanted}; got "
                f"{factory!r}."
            )
        if not _is_name(name):
            raise InputError(f"register: {name!r} is not a name; use letters, digits, '-' and '_'.")
        hook = _HOOKS[kinds[0]]
        plugin = self.manager.get_plugin("local")
        if plugin is None:
            mappings: dict[str, dict[str, Callable[..., Any]]] = {h: {} for h in _HOOKS.values()}
            provide = {h: hookspecs.hookimpl((lambda m: lambda: m)(mappings[h])) for h in mappings}
            plugin = SimpleNamespace(mappings=mappings, **provide)
            self._admit("local", "registered by this program", lambda: plugin)
        mine = cast("dict[str, Callable[..., Any]]", plugin.mappings[hook])
        if mine.get(name, factory) is not factory:
            raise InputError(
                f"register: local/{name} is already {mine[name]!r}; choose another name."
            )
        mine[name] = factory
        self._mappings.pop(("local", hook), None)
        return f"local/{name}"

    def wrap(self, model: object) -> BlackBox | None:
        """The first plugin's BlackBox around a model, newest plugin first; None if nobody knows it.

        Args:
            model: Whatever a user calls a model.

        Raises:
            InputError: Somebody knows it, and says what is wrong with it.
            ContractError: Our own hook gave something else; a plugin's is left out with a warning.
        """
        for implementation in reversed(self.manager.hook.wrap_model.get_hookimpls()):
            try:
                black_box = implementation.function(model)
                if black_box is not None and not isinstance(black_box, BlackBox):
                    raise ContractError(f"it returned {name_of(black_box)}, which is no BlackBox")
            except Exception as error:
                if implementation.plugin_name == "saliencykit" or isinstance(error, InputError):
                    raise
                record = next(r for r in self.plugins if r.name == implementation.plugin_name)
                self._fail(record, f"wrap_model() raised {type(error).__name__}: {error}")
                continue
            if black_box is not None:
                return black_box
        return None


def _checked(mapping: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    factories = dict(mapping)
    for name, factory in factories.items():
        if not isinstance(name, str) or not _is_name(name) or not callable(factory):
            raise ContractError(
                f"{name!r}: {factory!r}; a hook gives names without '/:,= +', and a class or "
                "function for each"
            )
        if isinstance(factory, tuple(KINDS.values())):
            raise ContractError(
                f"{name!r}: give the class {name_of(factory)} or a function that makes one, not "
                f"{factory!r}"
            )
    return factories


def _is_name(name: str) -> bool:
    return bool(name) and not any(c in "/:,= +" for c in name)


_registry: Registry | None = None


def registry() -> Registry:
    """The process's registry; the first call discovers the plugins."""
    global _registry
    if _registry is None:
        _registry = Registry()
    return _registry


def register(name: str, factory: Callable[..., Any]) -> str:
    """Give one of your own parts a name for texts and the command line, without a plugin.

    Args:
        name: Letters, digits, `-` and `_`; the full name is `local/name`.
        factory: A class derived from BlackBox, Alternative, Term, Masker or Metric, which say what
            it is.

    Returns:
        The full name.

    Raises:
        InputError: The factory is no such class, or the name is taken or malformed.

    Example:
        >>> import saliencykit
        >>> class Everything(saliencykit.Masker):
        ...     def mask(self, black_box, images, labels, generator):
        ...         return images.new_ones(len(images), 1, 1, 1)
        >>> saliencykit.register("everything", Everything)
        'local/everything'
    """
    return registry().register(name, factory)


def as_black_box(model: object) -> BlackBox:
    """A BlackBox from a BlackBox, a name (`timm:resnet18`), a file that a plugin reads
    (`model.onnx`), a model or a function.

    Raises:
        RegistryError: The name is unknown, or no installed plugin reads this file or address.
        InputError: Nobody knows how to ask this object.
    """
    if isinstance(model, BlackBox):
        return model
    if isinstance(model, str):
        known = _is_known("black_box", model)
        black_box = None if known else registry().wrap(model)
        words = None if known or black_box else advice(model)
        if words:
            raise RegistryError(
                f"no plugin reads the model {model!r}: {words}.{registry().left_out()}"
            )
        return black_box or cast(BlackBox, registry().create("black_box", model))
    black_box = registry().wrap(model)
    if black_box is None:
        raise InputError(
            f"{name_of(model)} is not a classifier that saliencykit knows. Give a torch "
            "nn.Module, a function from numpy (B, H, W, C) to (B, K), a name like "
            "'timm:resnet18', or an object derived from saliencykit.BlackBox."
        )
    return black_box


def _is_known(kind: Kind, text: str) -> bool:
    """Does a text begin with a name of this kind? One that does not may be a file's path."""
    name = text.partition(":")[0].strip()
    return any(name in (full, full.split("/", 1)[1]) for full in registry().names(kind))


def as_masker(masker: Masker | str) -> Masker:
    """A Masker from a Masker, a text like `rise:samples=500`, or the file of a trained one,
    `my-masker.safetensors`.
    """
    if (
        isinstance(masker, str)
        and masker.endswith(".safetensors")
        and not _is_known("masker", masker)
    ):
        from saliencykit.maskers.realtime.masker_file import load_masker

        return load_masker(Path(masker).expanduser())
    return cast(Masker, _as(masker, "masker"))


def trained_masker(black_box: BlackBox) -> Masker | None:
    """The trained masker that a plugin provides for exactly this model's weights, or None."""
    for full, factory in registry().names("masker").items():
        try:
            if isinstance(factory, TrainedMaskerFactory) and factory.fits(black_box):
                return factory()
        except SaliencyKitError as error:
            warnings.warn(f"the trained masker {full} cannot be used: {error}", stacklevel=3)
    return None


def as_alternative(alternative: Alternative | str) -> Alternative:
    """An Alternative from an Alternative or a text like `blur:sigma=11`."""
    return cast(Alternative, _as(alternative, "alternative"))


def as_metric(metric: Metric | str) -> Metric:
    """A Metric from a Metric or a text."""
    return cast(Metric, _as(metric, "metric"))


def as_objective(objective: Objective | str) -> Objective:
    """An Objective from an Objective, a preset's name (`paper-mean`), or terms joined by `+`:
    `area:weight=8+destroyed-margin`.
    """
    from saliencykit.terms.paper import PRESETS

    if isinstance(objective, Objective):
        return objective
    if not isinstance(objective, str):
        raise InputError(f"an objective is an Objective or a text; got {name_of(objective)}.")
    if objective in PRESETS:
        return PRESETS[objective]()
    if "+" not in objective and ":" not in objective:
        known = [full.split("/", 1)[1] for full in registry().names("term")]
        if objective not in known:
            near = difflib.get_close_matches(objective, [*PRESETS, *known], n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise RegistryError(
                f"no objective is called {objective!r}.{hint} Presets: {', '.join(PRESETS)}; "
                f"or terms joined by '+': {', '.join(known)}."
            )
    return Objective(
        tuple(cast(Term, registry().create("term", part.strip())) for part in objective.split("+"))
    )


def _as(thing: object, kind: Kind) -> object:
    if isinstance(thing, KINDS[kind]):
        return thing
    if isinstance(thing, str):
        return registry().create(kind, thing)
    names = ", ".join(full.split("/", 1)[1] for full in list(registry().names(kind))[:3])
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
