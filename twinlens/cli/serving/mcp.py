"""`twinlens mcp`: gives a language model the tools to search and classify images here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twinlens.cli.options import DeviceOption, Threads
from twinlens.cli.terminal import print_note
from twinlens.errors import InputError, MissingDependencyError


def mcp(
    collections: Annotated[
        list[str] | None,
        typer.Argument(help="Collections as DIR or NAME=DIR.", metavar="[NAME=]DIR"),
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option(
            "--bundle", "-b", help="Bundle; default: each collection's own, else `builtin`."
        ),
    ] = None,
    http: Annotated[
        bool,
        typer.Option("--http", help="Answer HTTP at /mcp; default: standard input and output."),
    ] = False,
    port: Annotated[int, typer.Option(help="Port, with --http.", min=1, max=65535)] = 8765,
    host: Annotated[str, typer.Option(help="Address to listen on, with --http.")] = "127.0.0.1",
    device: DeviceOption = "auto",
    threads: Threads = None,
) -> None:
    """Offer search_images, similar, classify_image, embed and collection_info over MCP.

    Over standard input and output the model's program starts this command itself, and may name
    files of this machine; over HTTP it may not. HTTP asks for no key: keep it on 127.0.0.1.

    [bold]Example:[/] twinlens mcp photos=photos.index
    """
    try:
        import mcp as _  # noqa: F401
    except ImportError:
        raise MissingDependencyError(
            "twinlens mcp needs the mcp package; run: pip install 'twinlens[cpu,mcp]'"
        ) from None
    from twinlens.bundle.encoder import Encoder, open_bundle
    from twinlens.cli.serving.mcp_tools import Tools, build_server
    from twinlens.index.collection import Collection

    folders = read_folders(collections or [])

    def open_encoder(source: str) -> Encoder:
        return open_bundle(source, device=device, threads=threads)

    opened = {name: Collection(folder) for name, folder in folders.items()}
    tools = Tools(opened, open_encoder, bundle=bundle, reads_files=not http)
    server = build_server(tools)
    try:
        if http:
            print_note(f"MCP at http://{host}:{port}/mcp: {', '.join(folders) or 'no collection'}")
            server.run("streamable-http", host=host, port=port)
        else:
            server.run("stdio")
    finally:
        tools.close()


def read_folders(given: list[str]) -> dict[str, Path]:
    """Return folders by name; the default name is the folder's, without its suffix."""
    found: dict[str, Path] = {}
    for text in given:
        name, sign, path = text.partition("=")
        if not sign:
            name, path = Path(text).stem, text
        if not name or not path:
            raise InputError(f"{text!r} is not a collection; write DIR or NAME=DIR")
        if name in found:
            raise InputError(f"two collections are called {name!r}; name one with NAME=DIR")
        found[name] = Path(path).expanduser()
    return found
