"""Registry: names and the factories behind them. It owns the plugin manager.

A name is short (`blur`) or full (`saliencykit/blur`). `spec` reads names with arguments, `coerce`
makes objects of them.
"""

import difflib
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import SimpleNamespace
from typing import Any, Literal, TypeAlias, cast, final

import pluggy

from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import ContractError, InputError, RegistryError
from saliencykit.core.masker import Masker
from saliencykit.core.metric import Metric
from saliencykit.core.objective import Term
from saliencykit.registry import builtins, hookspecs
from saliencykit.registry.spec import Spec, build, parse

Kind: TypeAlias = Literal["black_box", "alternative", "term", "masker", "metric"]
Factory: TypeAlias = Callable[..., Any]

KINDS: Mapping[Kind, type] = {
    "black_box": BlackBox,
    "alternative": Alternative,
    "term": Term,
    "masker": Masker,
    "metric": Metric,
}
_HOOKS: Mapping[Kind, str] = {
    "black_box": "provide_black_boxes",
    "alternative": "provide_alternatives",
    "term": "provide_terms",
    "masker": "provide_maskers",
    "metric": "provide_metrics",
}


@final
@dataclass
class PluginRecord:
    """A plugin's name, its origin, and why it failed (empty if it works)."""

    name: str
    origin: str
    failure: str = ""


@final
class Registry:
    """Everything that has a name. One per process, made at the first look-up; see `registry()`.

    Args:
        points: Entry points to load instead of the installed ones of the group `saliencykit`.
    """

    def __init__(self, points: list[EntryPoint] | None = None) -> None:
        self.manager = pluggy.PluginManager("saliencykit")
        self.manager.add_hookspecs(hookspecs)
        self.plugins: list[PluginRecord] = []
        self._mappings: dict[tuple[str, str], Mapping[str, Factory]] = {}
        self._admit("saliencykit", "built in", lambda: builtins)
        points = list(entry_points(group="saliencykit")) if points is None else points
        disabled = [name.strip() for name in os.environ.get("SALIENCYKIT_DISABLE", "").split(",")]
        for point in sorted(points, key=lambda p: p.name):
            origin = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
            record = PluginRecord(point.name, origin)
            if point.name in disabled:
                record.failure = "disabled by SALIENCYKIT_DISABLE"
                self.plugins.append(record)
            elif point.name == "local" or any(r.name == point.name for r in self.plugins):
                self._fail(record, "another plugin already has this name")
            else:
                self._admit(point.name, origin, point.load)

    def _admit(self, name: str, origin: str, load: Callable[[], object]) -> None:
        record = PluginRecord(name, origin)
        try:
            plugin = load()
            self.manager.register(plugin, name)
            self.manager.check_pending()
            for hook in (*_HOOKS.values(), "wrap_model"):
                if not callable(getattr(plugin, hook, None)):
                    continue
                if self.manager.parse_hookimpl_opts(plugin, hook) is None:
                    raise ContractError(
                        f"{hook} is not marked as a hook; write @saliencykit.hookimpl above it"
                    )
        except (Exception, SystemExit) as error:  # a broken plugin never breaks the host
            self._fail(record, _named(error))
        else:
            self.plugins.append(record)

    def _fail(self, record: PluginRecord, reason: str) -> None:
        plugin = self.manager.get_plugin(record.name)
        others = [r for r in self.plugins if r.name == record.name and r is not record]
        if plugin is not None and all(r.failure for r in others):
            self.manager.unregister(plugin)
        record.failure = reason
        if record not in self.plugins:
            self.plugins.append(record)
        warnings.warn(
            f"saliencykit: plugin {record.name!r} ({record.origin}) is left out: {reason}",
            stacklevel=2,
        )

    def _hook_failed(self, plugin: str, hook: str, error: BaseException) -> None:
        record = next(r for r in self.plugins if r.name == plugin)
        self._fail(record, f"{hook}() raised {_named(error)}")

    def names(self, kind: Kind) -> dict[str, Factory]:
        """Factories of one kind by full name, `plugin/name`; the built-in ones first.

        Args:
            kind: `black_box`, `alternative`, `term`, `masker` or `metric`.
        """
        hook = _HOOKS[kind]
        out: dict[str, Factory] = {}
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            plugin = implementation.plugin_name
            if (plugin, hook) not in self._mappings:
                try:
                    self._mappings[plugin, hook] = _checked(implementation.function())
                except (Exception, SystemExit) as error:
                    self._hook_failed(plugin, hook, error)
                    continue
            out |= {f"{plugin}/{name}": made for name, made in self._mappings[plugin, hook].items()}
        return dict(
            sorted(out.items(), key=lambda item: (not item[0].startswith("saliencykit/"), item[0]))
        )

    def find(self, kind: Kind, name: str) -> tuple[str, Factory]:
        """The full name and factory of a short or full name.

        Args:
            kind: As in `names`.
            name: `blur` or `saliencykit/blur`.

        Raises:
            RegistryError: No plugin provides it, or several do.
        """
        known = self.names(kind)
        matches = [full for full in known if name in (full, short_name(full))]
        if len(matches) == 1:
            return matches[0], known[matches[0]]
        noun = "model" if kind == "black_box" else kind
        if matches:
            raise RegistryError(
                f"several plugins provide the {noun} {name!r}; write one of {', '.join(matches)}."
            )
        raise RegistryError(
            f"unknown {noun} {name!r}.{did_you_mean(name, [*map(short_name, known), *known])} "
            f"Known: {', '.join(known)}.{self.left_out()}"
        )

    def left_out(self) -> str:
        """The plugins that could not be used, with reasons, to end a message with; empty if there
        are none.
        """
        broken = [f"{r.name} ({r.failure})" for r in self.plugins if r.failure]
        return f" Plugins left out: {'; '.join(broken)}." if broken else ""

    def create(
        self, kind: Kind, text: str, makers: Mapping[type, Callable[[str], Any]] | None = None
    ) -> Any:
        """The object that a text names, checked to be of its kind.

        Args:
            kind: As in `names`.
            text: A name, with or without arguments: `blur:sigma=11`.
            makers: How to read an argument of one of these types; None: none of them.

        Raises:
            RegistryError: The name is unknown or ambiguous, or its factory cannot be imported.
            InputError: The arguments do not fit the factory.
            ContractError: The factory returned something else.
        """
        spec = parse(text)
        full, factory = self.find(kind, spec.name)
        thing = build(Spec(full, spec.values, spec.options), factory, makers or {})
        if not isinstance(thing, KINDS[kind]):
            raise ContractError(
                f"the factory of {full} returned {name_of(thing)}; expected a "
                f"{KINDS[kind].__name__}."
            )
        return thing

    def register(self, name: str, factory: Factory) -> str:
        """Name a class of your own `local/name`; see `register`.

        Args:
            name: Letters, digits, `-` and `_`.
            factory: A class derived from one of the contracts.

        Raises:
            InputError: The factory is no such class, or the name is taken or malformed.
        """
        bases = factory.__mro__ if isinstance(factory, type) else ()
        kinds = [kind for kind, base in KINDS.items() if base in bases]
        if not kinds:
            wanted = ", ".join(base.__name__ for base in KINDS.values())
            raise InputError(
                f"register({name!r}, ...) takes a class derived from one of {wanted}; got "
                f"{factory!r}."
            )
        if not _is_name(name):
            raise InputError(f"register: {name!r} is not a name; use letters, digits, '-' and '_'.")
        plugin = self.manager.get_plugin("local")
        if plugin is None:
            mappings: dict[str, dict[str, Factory]] = {hook: {} for hook in _HOOKS.values()}
            provide = {h: hookspecs.hookimpl((lambda m: lambda: m)(mappings[h])) for h in mappings}
            plugin = SimpleNamespace(mappings=mappings, **provide)
            self._admit("local", "registered by this program", lambda: plugin)
        mine = cast("dict[str, Factory]", plugin.mappings[_HOOKS[kinds[0]]])
        if mine.get(name, factory) is not factory:
            raise InputError(
                f"register: local/{name} is already {mine[name]!r}; choose another name."
            )
        mine[name] = factory
        self._mappings.pop(("local", _HOOKS[kinds[0]]), None)
        return f"local/{name}"

    def wrap(self, model: object) -> BlackBox | None:
        """The first plugin's BlackBox around a model, newest plugin first; None if no plugin knows
        it.

        Args:
            model: Whatever a user calls a model.

        Raises:
            InputError: A plugin knows it and says what is wrong with it.
            ContractError: The built-in hook returned something else; a plugin that does so is left
                out with a warning.
        """
        for implementation in reversed(self.manager.hook.wrap_model.get_hookimpls()):
            try:
                black_box = implementation.function(model)
                if black_box is not None and not isinstance(black_box, BlackBox):
                    raise ContractError(
                        f"it returned {name_of(black_box)}, which is not a BlackBox"
                    )
            except (Exception, SystemExit) as error:
                if implementation.plugin_name == "saliencykit" or isinstance(error, InputError):
                    raise
                self._hook_failed(implementation.plugin_name, "wrap_model", error)
                continue
            if black_box is not None:
                return black_box
        return None


def short_name(full: str) -> str:
    """A name without its plugin.

    Example:
        >>> short_name("saliencykit/blur")
        'blur'
    """
    return full.split("/", 1)[1]


def did_you_mean(name: str, known: list[str]) -> str:
    """A hint for a message, with a space before it; empty if nothing is similar."""
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _checked(mapping: Mapping[str, Factory]) -> dict[str, Factory]:
    factories = dict(mapping)
    for name, factory in factories.items():
        if not isinstance(name, str) or not _is_name(name) or not callable(factory):
            raise ContractError(
                f"{name!r}: {factory!r}; a hook returns names without '/:,= +', and a class or "
                "function for each"
            )
        if isinstance(factory, tuple(KINDS.values())):
            raise ContractError(
                f"{name!r}: give the class {name_of(factory)} or a function that makes one, not "
                f"{factory!r}"
            )
    return factories


def _named(error: BaseException) -> str:
    return f"{name_of(error)}: {' '.join(str(error).split())}"


def _is_name(name: str) -> bool:
    return bool(name) and not any(c in "/:,= +" for c in name)


_registry: Registry | None = None


def registry() -> Registry:
    """The process's registry; the first call discovers the plugins."""
    global _registry
    if _registry is None:
        _registry = Registry()
    return _registry


def register(name: str, factory: Factory) -> str:
    """Name a class of your own, for texts and the command line, without a plugin.

    Args:
        name: Letters, digits, `-` and `_`; the full name is `local/name`.
        factory: A class derived from BlackBox, Alternative, Term, Masker or Metric.

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
