"""The command doctor."""

import platform
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import typer
from rich.markup import escape

from saliencykit._version import __version__
from saliencykit.cli import workflows
from saliencykit.cli.console import print_table

_REQUIRED = (
    *("torch", "torchvision", "numpy", "scipy", "scikit-image", "pillow"),
    *("pluggy", "safetensors", "lazy_loader", "typer", "rich"),
)
_OPTIONAL = ("timm", "transformers", "captum", "accelerate")


def doctor() -> None:
    """Show versions, devices and plugins, and check that the demo model works.

    The exit code is 1 if something is broken.
    """
    checks = list(_checks())
    rows = [
        (what, escape(state) if ok else f"[red]{escape(state)}[/red]") for what, state, ok in checks
    ]
    print_table(("what", "state"), rows, left=2)
    if not all(ok for _, _, ok in checks):
        raise typer.Exit(1)


def _checks() -> Iterator[tuple[str, str, bool]]:
    """What was checked, its state, and whether it is fine."""
    yield "python", platform.python_version(), True
    yield "saliencykit", __version__, True
    for package in _REQUIRED + _OPTIONAL:
        try:
            yield package, version(package), True
        except PackageNotFoundError:
            optional = package in _OPTIONAL
            yield package, "not installed (optional)" if optional else "missing", optional
    cuda = range(workflows.torch.cuda.device_count())
    devices = ["cpu", *(f"cuda:{i} ({workflows.torch.cuda.get_device_name(i)})" for i in cuda)]
    devices += ["mps"] if workflows.torch.backends.mps.is_available() else []
    yield "devices", ", ".join(devices), True
    yield "threads", str(workflows.torch.get_num_threads()), True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # failures are listed below
        for kind in workflows.KINDS:
            workflows.registry().names(kind)
    for plugin in workflows.registry().plugins:
        # a plugin that the user disabled is not broken
        fine = not plugin.failure or plugin.failure.startswith("disabled")
        yield f"plugin {plugin.name}", plugin.failure or "works", fine
    try:
        workflows.as_black_box("demo")(workflows.torch.rand(1, 3, 64, 64))
        yield "demo model", "works", True
    except Exception as error:
        yield "demo model", str(error), False
