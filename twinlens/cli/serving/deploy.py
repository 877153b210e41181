"""`twinlens deploy`: replicas of the server on an engine that runs already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twinlens.cli.terminal import print_note
from twinlens.errors import InputError

app = typer.Typer(
    help="""Run replicas of the server on a cluster.

    [bold]Example:[/] twinlens deploy ray photos=./b32 --address auto""",
    no_args_is_help=True,
)


@app.callback()
def group() -> None:
    """Run replicas of the server on a cluster."""


@app.command()
def ray(
    bundles: Annotated[
        list[str] | None,
        typer.Argument(help="Bundles as PATH or NAME=PATH; every node needs the paths."),
    ] = None,
    collection: Annotated[
        list[str] | None,
        typer.Option(help="A collection: a store, or a folder to read.", metavar="NAME=PLACE"),
    ] = None,
    replicas: Annotated[
        str, typer.Option(help="Minimum and maximum of replicas, e.g. 2:8.", metavar="LEAST:MOST")
    ] = "1:4",
    ongoing: Annotated[
        int,
        typer.Option(
            help="Requests per replica, including waiting ones, before a replica is added."
        ),
    ] = 8,
    cpus: Annotated[float, typer.Option(help="CPUs of a replica.")] = 1,
    gpus: Annotated[float, typer.Option(help="GPUs of a replica.")] = 0,
    address: Annotated[
        str | None,
        typer.Option(help="Address of the Ray cluster; default: `auto`, the one running here."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address that the proxies listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.", min=1, max=65535)] = 8000,
    upgrade: Annotated[
        str, typer.Option(help="With --write: any text; a new one replaces the replicas.")
    ] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting of `serve`, NAME=VALUE.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="Write a Serve config file instead of deploying.")
    ] = None,
) -> None:
    """Serve with replicas on Ray Serve, scaled by the number of waiting requests.

    Run it again with other options, or after a bundle has changed: replicas are replaced one by
    one.

    [bold]Example:[/] twinlens deploy ray photos=./b32 --replicas 2:8 --address auto
    """
    from twinlens.cli.serving.bundle_names import read_bundles
    from twinlens.cli.serving.collections import read_named
    from twinlens.serving.ray_serve import ReplicaPlan, deploy_replicas, write_config

    least, most = _read_range(replicas)
    plan = ReplicaPlan(
        read_bundles(bundles or []),
        dict(read_named(collection or [])),
        tuple(set_ or []),
        *(least, most, ongoing, cpus, gpus, upgrade),
    )
    plan.check()
    if write is not None:
        write.write_text(write_config(plan, host, port), encoding="utf-8")
        print_note(f"wrote {write}; deploy it with `serve deploy {write}`")
        return
    deploy_replicas(plan, address or "auto", host, port)
    print_note(f"{least} to {most} replicas answer at http://{host}:{port}")


def _read_range(text: str) -> tuple[int, int]:
    least, sign, most = text.partition(":")
    try:
        return int(least), int(most if sign else least)
    except ValueError:
        raise InputError(f"--replicas {text!r} is not LEAST:MOST", field="replicas") from None
