"""The command app."""

from pathlib import Path
from typing import Annotated

import typer

from saliencykit.cli import workflows
from saliencykit.cli.console import say
from saliencykit.cli.options import Device


def app(
    model: Annotated[
        list[str] | None,
        typer.Option(help="Model to offer, e.g. timm:resnet18; repeatable. Default: demo."),
    ] = None,
    masker: Annotated[
        list[str] | None,
        typer.Option(help="Masker to offer first, e.g. a trained .safetensors file; repeatable."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Directory of images, shown as a gallery sorted by verdict.")
    ] = None,
    device: Device = "auto",
    host: Annotated[
        str, typer.Option(help="Address to listen at; the default is this machine only.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port; 0: the first free one from 7860 on.", min=0, max=65535)
    ] = 0,
) -> None:
    """Explore masks in a browser: drop an image, move a slider, see what the model answers."""
    models = {name: workflows.black_box_on_device(name, device) for name in model or ["demo"]}
    page = workflows.launch_app(
        models, maskers=masker or (), folder=folder, host=host, port=port or None, block=False
    )
    say(f"open {page.local_url} in a browser; Ctrl-C ends")
    page.block_thread()
