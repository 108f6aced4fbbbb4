"""new_plugin: a plugin package, made from the template that ships with the library."""

import keyword
import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import distributions
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import final

from saliencykit.core.errors import InputError
from saliencykit.registry.manager import registry

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")  # of a distribution, PEP 508
_END = ".template"


@final
@dataclass(frozen=True)
class NewPlugin:
    """The three names of a new plugin, and its directory.

    Attributes:
        distribution: For pip, `my-plugin`.
        package: For `import`, `my_plugin`.
        plugin: The prefix of its names, `my-plugin/peephole`.
        folder: The directory of its pyproject.toml.
    """

    distribution: str
    package: str
    plugin: str
    folder: Path


def names_of(name: str) -> tuple[str, str, str]:
    """The names of distribution, package and plugin.

    Raises:
        InputError: It is not a valid name for a package.

    Example:
        >>> names_of("My.Plugin"), names_of("saliencykit-fog")
        (('my-plugin', 'my_plugin', 'my-plugin'), ('saliencykit-fog', 'saliencykit_fog', 'fog'))
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is not a valid package name, such as 'my-plugin': letters, digits, '-', "
            "'_' and '.', with a letter or a digit at both ends."
        )
    distribution = re.sub(r"[-_.]+", "-", name).lower()
    package = distribution.replace("-", "_")
    if not package.isidentifier() or keyword.iskeyword(package):
        reason = "a keyword" if keyword.iskeyword(package) else "not a valid name"
        raise InputError(
            f"{name!r} cannot be imported: {package!r} is {reason} in Python; choose another one, "
            f"such as 'my-{distribution}'."
        )
    return distribution, package, distribution.removeprefix("saliencykit-") or distribution


def new_plugin(name: str, into: Path = Path()) -> NewPlugin:
    """Make a new package from the template: one part of each kind, tests, a README; all or nothing.

    Args:
        name: The name of the package for pip.
        into: The directory for its directory; created if it does not exist.

    Returns:
        Its names and its directory.

    Raises:
        InputError: The name is malformed or taken, the directory exists, or it cannot be written.
    """
    distribution, package, plugin = names_of(name)
    folder = into / distribution
    if folder.exists():
        raise InputError(
            f"'{folder}' already exists; choose another name, or another directory with --into."
        )
    _refuse_taken(distribution, package, plugin)
    try:
        into.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{distribution}-", dir=into))
    except OSError as error:
        raise InputError(f"cannot write to '{into}': {error.strerror}.") from error
    try:
        write_template(beside, distribution)
        beside.chmod(0o777 & ~_umask())
        beside.rename(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return NewPlugin(distribution, package, plugin, folder)


def write_template(folder: Path, name: str) -> None:
    """Write the files of the template, with the name filled in, into an empty directory; installed
    packages do not matter.
    """
    words = dict(zip(("distribution", "package", "plugin"), names_of(name), strict=True))
    _fill(files("saliencykit") / "registry" / "template", folder, words)


def _refuse_taken(distribution: str, package: str, plugin: str) -> None:
    """Raise InputError if something installed has one of the names."""
    installed = {re.sub(r"[-_.]+", "-", each.name).lower() for each in distributions() if each.name}
    known = {record.name: record.origin for record in registry().plugins}
    known["local"] = "names given by saliencykit.register"
    if plugin in known:
        raise InputError(
            f"a plugin {plugin!r} already exists ({known[plugin]}); choose another name than "
            f"{distribution!r}."
        )
    if distribution in installed:
        raise InputError(f"a package {distribution!r} is already installed; choose another name.")
    if package in sys.stdlib_module_names or find_spec(package) is not None:
        raise InputError(
            f"a module {package!r} already exists, and the plugin would shadow it; choose another "
            f"name than {distribution!r}."
        )


def _fill(source: Traversable, target: Path, words: dict[str, str]) -> None:
    for entry in source.iterdir():
        if entry.is_dir():
            below = target / (words["package"] if entry.name == "package" else entry.name)
            below.mkdir()
            _fill(entry, below, words)
        elif entry.name.endswith(_END):
            text = Template(entry.read_text(encoding="utf-8")).substitute(words)
            (target / entry.name.removesuffix(_END)).write_text(
                text, encoding="utf-8", newline="\n"
            )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
