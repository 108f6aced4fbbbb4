"""required: an optional package, imported where it is needed."""

from importlib import import_module
from typing import Any

from saliencykit.core.errors import InputError


def required(module: str, who: str, extra: str | None = None) -> Any:
    """A module of an optional package.

    Args:
        module: Its dotted name.
        who: What needs the package, for the error.
        extra: The extra of saliencykit that installs the package. None: pip installs it by name.

    Raises:
        InputError: The package is not installed; with the line that installs it.

    Example:
        >>> required("numpy", "the example").__name__
        'numpy'
    """
    package = module.partition(".")[0]
    try:
        import_module(package)
        return import_module(module)
    except ImportError as error:
        install = package if extra is None else f"'saliencykit[{extra}]'"
        raise InputError(f"{who} needs {package}; pip install {install}.") from error
