"""The command line, assembled from its commands."""

import io
import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated

import typer

from saliencykit._version import __version__
from saliencykit.cli import plugins
from saliencykit.cli.app import app as serve_app
from saliencykit.cli.audit import audit
from saliencykit.cli.calibrate import calibrate
from saliencykit.cli.command_options import add_command
from saliencykit.cli.compare import compare
from saliencykit.cli.console import complain, warn
from saliencykit.cli.doctor import doctor
from saliencykit.cli.evaluate import evaluate
from saliencykit.cli.explain import PANELS, explain
from saliencykit.cli.export import export
from saliencykit.cli.fit import fit
from saliencykit.cli.fit_surrogate import fit_surrogate
from saliencykit.cli.merge import merge
from saliencykit.cli.plan import plan
from saliencykit.cli.report import report
from saliencykit.cli.sanity_check import sanity_check
from saliencykit.core.errors import SaliencyKitError

app = typer.Typer(
    help="Which pixels does a model's decision rest on?",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
add_command(app, explain, panels=PANELS)
_COMMANDS: tuple[Callable[..., None], ...] = (
    *(plan, merge, export, fit, fit_surrogate, calibrate, evaluate, compare, report),
    *(sanity_check, audit, serve_app, doctor),
)
for _command in _COMMANDS:
    add_command(app, _command)
app.add_typer(plugins.app, name="plugins")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    if version:
        typer.echo(__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the command line.

    A user's mistake is one line on stderr and exit code 2, a bug is exit code 1, Ctrl-C 130.
    """
    warnings.showwarning = warn
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names that the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        app(standalone_mode=True)
    except SaliencyKitError as error:
        complain(f"Error: {error}")
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as stop:
        # typer turns Ctrl-C into a SystemExit without a message
        if isinstance(stop, SystemExit) and stop.code != 130:
            raise
        complain("Interrupted.")
        sys.exit(130)
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            # no permission, or a name that is too long
            complain(f"Error: {str(error.filename)!r} cannot be read or written: {error.strerror}.")
            sys.exit(2)
        if os.environ.get("SALIENCYKIT_TRACEBACK"):
            raise
        complain(
            f"Unexpected {type(error).__name__}: {error}. This is a bug in saliencykit or in a "
            "plugin; set SALIENCYKIT_TRACEBACK=1 to see the traceback."
        )
        sys.exit(1)
