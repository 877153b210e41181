"""`twinlens serve`: bundles behind HTTP. Every option ends in one settings object."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.serving.settings import Settings


def serve(
    bundles: Annotated[
        list[str] | None,
        typer.Argument(
            help="Bundles as PATH or NAME=PATH; none: the builtin one.", metavar="[NAME=]PATH"
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="Port; 0 picks a free one.", min=0, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    data: Annotated[
        Path | None, typer.Option(help="Folder that keeps classifiers and jobs over restarts.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="Precisions to load, first is the default: fp32, or fp32,int8.")
    ] = "fp32",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="Threads of the encoder; default one a core.", min=1)
    ] = None,
    fast: Annotated[bool, typer.Option(help="Decode large JPEG files at reduced size.")] = False,
    window: Annotated[
        float, typer.Option(help="Milliseconds a batch may wait to grow; for GPUs.", min=0)
    ] = 0.0,
) -> None:
    """Serve bundles over HTTP.

    [bold]Example:[/] twinlens serve photos=./b32 --port 8000 --data ./data
    """
    from twinlens.serving.launch import announce, build_opener, run_server
    from twinlens.serving.service import Service

    settings = _build_settings(data, precision, window)
    service = Service(settings, build_opener(settings, device=device, threads=threads, fast=fast))
    for name, path in read_bundles(bundles or []).items():
        service.load(name, path)
    for line in announce(service, host, port):
        typer.echo(line, err=True)
    run_server(service, host=host, port=port)


def read_bundles(given: list[str]) -> dict[str, str]:
    """Return paths by name; a path without a name is called by its folder."""
    if not given:
        return {"builtin": "builtin"}
    found: dict[str, str] = {}
    for text in given:
        name, sign, path = text.partition("=")
        if not sign:
            name, path = Path(text).name, text
        if not name or not path:
            raise InputError(f"{text!r} is not a bundle; write PATH or NAME=PATH")
        if name in found:
            raise InputError(f"two bundles are called {name!r}; name one with NAME=PATH")
        found[name] = path
    return found


def _build_settings(data: Path | None, precision: str, window: float) -> Settings:
    from twinlens.serving.settings import Settings

    precisions = tuple(part.strip() for part in precision.split(",") if part.strip())
    if not precisions:
        raise InputError("--precision is empty; write fp32, int8 or fp32,int8")
    settings = Settings(data=data, precisions=precisions)
    return replace(settings, batching=replace(settings.batching, window_seconds=window / 1000))
