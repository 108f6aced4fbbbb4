"""launch_app(): the page in a browser on this machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saliencykit.app.page import Page
from saliencykit.app.page_fields import theme
from saliencykit.app.workbench import Workbench
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker

MAX_UPLOAD = 48 * 2**20
"""Bytes of an upload."""
_SESSIONS = 50  # browsers whose last image is kept


def launch_app(
    models: object = "demo",
    *,
    maskers: Sequence[Masker | str] = (),
    folder: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    block: bool = True,
) -> Any:
    """Serve a page in the browser: drop an image, move a slider, see what the model answers.

    Everything stays on this machine: fonts and scripts come from the page's own server, nothing is
    sent, and only models and maskers that are named here can be chosen.

    Args:
        models: A model as for `explain`, or several by the names to show, `{"mine": model}`.
        maskers: Offered first, the first of them chosen; the registered ones are offered too.
        folder: Its images are a gallery, sorted by verdict.
        host: The address to listen at. Another one than 127.0.0.1 shows the page, and with it the
            folder, to everybody who reaches this machine.
        port: None: the first free one from 7860 on.
        block: Serve until Ctrl-C; False: return at once.

    Returns:
        The page, `gradio.Blocks`; `close()` ends it.

    Raises:
        InputError: Gradio is not installed, a model cannot be used, the folder does not exist, or
            the port is in use.
        RegistryError: A name is unknown.

    Example:
        >>> launch_app({})
        Traceback (most recent call last):
        ...
        saliencykit.core.errors.InputError: the page needs a model; write launch_app({'mine': \
model}).
    """
    named = models if isinstance(models, Mapping) else {_name(models): models}
    workbench = Workbench(named, maskers)
    directory = None if folder is None else Path(folder).expanduser().resolve()
    if directory is not None and not directory.is_dir():
        raise InputError(f"folder={str(folder)!r} is not a directory; give one with images.")
    page = Page(workbench, directory).build()
    css = Path(__file__).with_name("panels.css")
    try:
        page.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=not block,
            quiet=True,
            share=False,
            theme=theme(),
            css_paths=css,
            max_file_size=MAX_UPLOAD,
            state_session_capacity=_SESSIONS,
            allowed_paths=[] if directory is None else [str(directory)],
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
        )
    except OSError as error:
        raise InputError(f"the page cannot be served at {host}:{port or ''}: {error}.") from error
    return page


def _name(model: object) -> str:
    return model if isinstance(model, str) else type(model).__name__
