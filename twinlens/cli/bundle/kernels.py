"""`twinlens kernels`: build the operators for serving on CUDA, and show what is built."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twinlens.cli.options import Json
from twinlens.cli.terminal import print_json

app = typer.Typer(
    help="Build the similarity operators for CUDA.\n\n[bold]Example:[/] twinlens kernels build",
    no_args_is_help=True,
)


@app.command()
def build(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the library; default: where sessions look."),
    ] = None,
    architecture: Annotated[
        list[int] | None, typer.Option(help="GPU architecture; default: 80 and 90.")
    ] = None,
    json: Json = False,
) -> None:
    """Compile the Triton kernels to machine code and link the ONNX Runtime library around them.

    Needs triton and g++, no GPU. Serving on a CPU does not need it: there the function body in each
    exported file is faster.

    [bold]Example:[/] twinlens kernels build
    """
    from twinlens.kernels.onnx.build import build_library

    built = build_library(out, architectures=tuple(architecture or (80, 90)))
    if json:
        print_json({"library": str(built.library), "kernels": built.kernels})
        return
    for kernel in built.kernels:
        family = f"sm_{kernel['architecture']}" if kernel["architecture"] else "any (PTX)"
        typer.echo(
            f"  {kernel['kernel']:28} {family:10} "
            f"{'aligned' if kernel['aligned'] else 'generic'}  "
            f"{kernel['shared_bytes'] / 1024:5.1f} KB shared  {kernel['bytes'] / 1024:5.1f} KB"
        )
    size = built.library.stat().st_size / 1024
    typer.echo(f"{built.library}: {len(built.kernels)} images, {size:.0f} KB")


@app.command()
def status(
    folder: Annotated[
        Path | None, typer.Option("--in", help="Folder of the library; default as for build.")
    ] = None,
    json: Json = False,
) -> None:
    """Show whether a library is built from these sources, and whether this machine would use it.

    [bold]Example:[/] twinlens kernels status
    """
    from twinlens.kernels.onnx.register import find_library, has_cuda_device

    library = find_library(folder)
    state = "none" if library is None else _compare(library)
    if json:
        print_json({"library": str(library or ""), "state": state, "cuda": has_cuda_device()})
        return
    typer.echo(f"library: {library or 'not built (twinlens kernels build)'}")
    if library is not None:
        typer.echo(f"sources: {state}")
    use = "used by sessions on CUDA" if has_cuda_device() else "no CUDA device here: never used"
    typer.echo(f"machine: {use}")


def _compare(library: Path) -> str:
    from importlib.util import find_spec

    from twinlens.kernels.onnx.build import is_current

    if find_spec("triton") is None:
        return "unknown (needs triton)"
    return "current" if is_current(library) else "stale"
