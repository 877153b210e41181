"""`twinlens embed`: images and texts to embeddings, on standard output or in a .npy file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.cli.options import (
    Bundle,
    DeviceOption,
    Engines,
    Json,
    PrecisionOption,
    Threads,
    open_encoder,
)
from twinlens.cli.terminal import print_json, print_note, track
from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.bundle.arrays import Rows
    from twinlens.bundle.encoder import Encoder

_CHUNK = 32


def embed(
    images: Annotated[list[Path] | None, typer.Argument(help="Image files.")] = None,
    text: Annotated[list[str] | None, typer.Option("--text", "-t", help="A text to embed.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write float32 rows to this .npy file.")
    ] = None,
    dimensions: Annotated[
        int | None, typer.Option(help="Keep this many dimensions, if the bundle allows it.")
    ] = None,
    bundle: Bundle = "builtin",
    precision: PrecisionOption = "fp32",
    device: DeviceOption = "auto",
    engine: Engines = "auto",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Embed image files and texts; rows are in the order of the inputs, images first.

    [bold]Example:[/] twinlens embed a.jpg b.png -t "a red heart" -o rows.npy
    """
    paths, texts = images or [], text or []
    if not paths and not texts:
        raise InputError("nothing to embed; name image files, or give texts with --text")
    encoder = open_encoder(bundle, precision, device, threads, engine)
    rows = encoder.shorten(_embed_all(encoder, paths, texts), dimensions)
    names = [*map(str, paths), *texts]
    if out is not None:
        import numpy as np

        np.save(out, rows)
        print_note(
            f"wrote {rows.shape[0]} x {rows.shape[1]} to {out} ({encoder.name} "
            f"{encoder.revision[:12]})"
        )
    elif json:
        print_json(
            {
                "model": encoder.name,
                "revision": encoder.revision,
                "inputs": names,
                "embeddings": rows,
            }
        )
    else:
        _print_rows(names, rows)


def _embed_all(encoder: Encoder, paths: list[Path], texts: list[str]) -> Rows:
    import numpy as np

    parts = [np.zeros((0, encoder.embedding_dim), np.float32)]
    starts = range(0, len(paths), _CHUNK)
    for start in track(starts, f"embedding {len(paths)} images", len(starts)):
        parts.append(encoder.embed_images(paths[start : start + _CHUNK]))
    if texts:
        parts.append(encoder.embed_texts(texts))
    return np.concatenate(parts)


def _print_rows(names: list[str], rows: Rows) -> None:
    """Print the first numbers of each row; -o and --json write all of them."""
    width = max(map(len, names))
    for name, row in zip(names, rows, strict=True):
        start = " ".join(f"{value:+.4f}" for value in row[:6])
        typer.echo(f"{name:{width}}  {start} ... ({len(row)})")
