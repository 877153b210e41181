"""`twinlens serve`: serves bundles over HTTP; its options become one settings object."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.cli.configuration import Configuration, check_settings, is_given
from twinlens.cli.options import DeviceOption, Engines, Exif, Place
from twinlens.cli.serving.browser import OpenPage, open_when_ready
from twinlens.cli.serving.bundle_names import pull_models, read_bundles
from twinlens.cli.serving.family import (
    choose_workers,
    make_openers,
    serve_family,
    start_tracer,
)
from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.cli.serving.collections import Images
    from twinlens.serving.launch import ListenAddress
    from twinlens.serving.service import Opener
    from twinlens.serving.settings import ServerSettings


# Options that are settings too: option, setting.
_OPTION_SETTINGS = {
    "precision": "precisions",
    "window": "batching.window_seconds",
    "allow_urls": "fetching.enabled",
    "allow_pull": "allow_pull",
    "allow_folder": "folders",
    "allow_host": "hosts",
    "alias": "aliases",
    "drain_notice": "watch.drain_notice",
    "log_format": "log_format",
}


def serve(
    context: typer.Context,
    bundles: Annotated[
        list[str] | None,
        typer.Argument(
            help="Bundles as PATH or NAME=PATH; PATH may be a ready model, hf:OWNER/NAME; default: "
            "builtin.",
            metavar="[NAME=]PATH",
            envvar="TWINLENS_SERVE_BUNDLES",
            show_envvar=False,
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="Port; 0 selects a free one.", min=0, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    data: Annotated[
        Path | None, typer.Option(help="Folder that keeps classifiers and jobs across restarts.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="Precisions to load, e.g. bf16,int8; the first is the default.")
    ] = "fp32",
    device: DeviceOption = "auto",
    device_memory: Annotated[
        float | None,
        typer.Option(help="GiB of each GPU that a tower may use; default: no limit.", min=0.1),
    ] = None,
    engine: Engines = "auto",
    threads: Annotated[
        int | None, typer.Option(help="Threads of the encoder; default: one per core.", min=1)
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            help="HTTP processes, in addition to one per device; 1: everything in one process; 0: "
            "as many as suit the cores, on machines with a GPU (not yet tested on one).",
            min=0,
            max=256,
        ),
    ] = 1,
    fast: Annotated[bool, typer.Option(help="Decode large JPEG files at reduced size.")] = False,
    window: Annotated[
        float, typer.Option(help="Milliseconds that a batch waits for more items; for GPUs.", min=0)
    ] = 0.0,
    keys: Annotated[
        Path | None,
        typer.Option(help="File of API keys, one SCOPE:KEY per line; default: TWINLENS_KEYS."),
    ] = None,
    bundle_folder: Annotated[
        Path | None,
        typer.Option("--bundles", help="Folder from which an admin key may load bundles by name."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Another name that the Host header may have; repeatable.",
            metavar="NAME",
        ),
    ] = None,
    allow_folder: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder from which the page, opened on this machine, may add pictures; "
            "repeatable.",
            metavar="DIR",
        ),
    ] = None,
    alias: Annotated[
        list[str] | None,
        typer.Option(
            help="Another name for a model, for clients with a built-in name; repeatable.",
            metavar="NAME=MODEL[:WIDTH]",
        ),
    ] = None,
    allow_pull: Annotated[
        bool, typer.Option(help="Let an admin key load ready models (hf:OWNER/NAME) from the hub.")
    ] = False,
    allow_urls: Annotated[bool, typer.Option(help="Allow images by public http(s) URL.")] = False,
    drain_notice: Annotated[
        float,
        typer.Option(help="Seconds from turning not ready to closing the port.", min=0),
    ] = 1.0,
    log_format: Annotated[str, typer.Option(help="text or json.")] = "text",
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate chain (PEM) for HTTPS; needs --tls-key.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The certificate's key (PEM).")] = None,
    collection: Annotated[
        list[str] | None,
        typer.Option(help="A collection: a folder or a store; repeatable.", metavar="NAME=DIR"),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Images to index first and serve as the collection `images`."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Index changes in the folder of --images while serving.")
    ] = False,
    exif: Exif = None,
    place: Place = True,
    runs: Annotated[
        Path | None,
        typer.Option(help="Folder of training runs to plot on the page.", metavar="DIR"),
    ] = None,
    show: OpenPage = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting, e.g. limits.items=64; docs/serve.md lists them."),
    ] = None,
) -> None:
    """Serve bundles over HTTP.

    Every option can also be set in twinlens.toml or the environment: `twinlens config --show`.

    [bold]Example:[/] twinlens serve photos=./b32 --port 8000 --data ./data

    [bold]A ready model:[/] twinlens serve hf:Xenova/clip-vit-base-patch32
    """
    given = {
        "precision": precision,
        "window": str(window / 1000),
        "allow_urls": str(allow_urls),
        "allow_pull": str(allow_pull),
        "allow_folder": ",".join(map(str, allow_folder or [])),
        "allow_host": ",".join(allow_host or []),
        "alias": ",".join(alias or []),
        "drain_notice": str(drain_notice),
        "log_format": log_format,
    }
    options = [*collect_settings(context, given), *(set_ or [])]
    settings = build_settings(options, data=data, bundles=bundle_folder, keys=_read_keys(keys))
    settings = replace(settings, runs=runs)
    from twinlens.cli.serving.collections import Images
    from twinlens.serving.launch import ListenAddress, build_opener

    if watch and images is None:
        raise InputError("--watch follows the folder of --images; give that too", field="watch")
    corpus = None if images is None else Images(images, exif, place, watch)
    address = ListenAddress(host, port, tls_cert, tls_key)
    named = read_bundles(bundles or [])
    workers = workers or choose_workers(device)
    if workers > 1:
        openers = make_openers(settings, device, threads, engine, fast, device_memory)
        serve_family(settings, openers, address, workers, named, collection or [], corpus, show)
        return
    opener = build_opener(
        settings,
        device=device,
        threads=threads,
        engine=engine,
        fast=fast,
        device_memory=device_memory,
    )
    _run(settings, opener, address, named, collection or [], corpus, show)


def collect_settings(context: typer.Context, given: dict[str, str]) -> list[str]:
    """Return NAME=VALUE of options, file and environment; later ones override earlier ones.

    An option given on the command line overrides the setting of the same name in file and
    environment; the default of an option does not.
    """
    options = [f"{_OPTION_SETTINGS[name]}={value}" for name, value in given.items()]
    configuration = context.find_object(Configuration) or Configuration()
    named = [
        f"{_OPTION_SETTINGS[name]}={value}"
        for name, value in given.items()
        if is_given(context, name)
    ]
    return [
        *options,
        *check_settings(configuration),
        *named,
    ]


def _run(
    settings: ServerSettings,
    opener: Opener,
    address: ListenAddress,
    named: dict[str, str],
    collections: list[str],
    images: Images | None,
    show: bool,
) -> None:
    """Own the data folder, then open the bundles and collections and serve them."""
    from twinlens.serving.files import own_folder

    with own_folder(settings.data):
        _serve(settings, opener, address, named, collections, images, show)


def _serve(
    settings: ServerSettings,
    opener: Opener,
    address: ListenAddress,
    named: dict[str, str],
    collections: list[str],
    images: Images | None,
    show: bool,
) -> None:
    """Open the bundles and collections, and serve them until a signal."""
    from twinlens.cli.serving.collections import following, open_collections
    from twinlens.serving.launch import announce, bind_port, run_server
    from twinlens.serving.observe.logs import configure_logs
    from twinlens.serving.routes.collections.lifecycle import build_routers
    from twinlens.serving.service import Service

    configure_logs(settings.log_format, requests=settings.log_requests)
    address.check()
    listener = bind_port(address.host, address.port)
    named = pull_models(named, settings.precisions)
    service = Service(settings, opener, tracer=start_tracer(settings))
    first = next(iter(named.values()))
    with following(images, settings.data, first) as start_following:
        store = open_collections(collections, images, settings.data, first)
        try:
            for name, path in named.items():
                service.load(name, path)
            announce(service, listener, address.scheme)
            start_following()
            if show:
                open_when_ready(listener, address.scheme)
            run_server(service, listener, build_routers(service, store), address.ssl_files)
        finally:
            store.close()


def build_settings(
    options: list[str], *, data: Path | None, bundles: Path | None, keys: str
) -> ServerSettings:
    """Return the settings from NAME=VALUE options and folders."""
    from twinlens.serving.keys import parse_keys
    from twinlens.serving.settings import ServerSettings, override

    settings = ServerSettings(data=data, bundles=bundles, keys=parse_keys(keys))
    for option in options:
        name, sign, value = option.partition("=")
        if not sign:
            raise InputError(f"--set {option!r} has no value; write NAME=VALUE")
        settings = override(settings, name.strip(), value.strip())
    if not settings.precisions:
        raise InputError("--precision is empty; write fp32, int8 or fp32,int8")
    if settings.log_format not in ("text", "json"):
        raise InputError(f"--log-format is {settings.log_format!r}; it must be text or json")
    return settings


def _read_keys(path: Path | None) -> str:
    """Return the keys as text: from the file, else from the environment."""
    if path is None:
        return os.environ.get("TWINLENS_KEYS", "")
    if not path.is_file():
        raise InputError(f"--keys {str(path)!r} is not a file")
    return path.read_text()
