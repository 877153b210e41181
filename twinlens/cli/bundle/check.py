"""`twinlens check`: verifies a bundle's hashes and its golden embeddings."""

from __future__ import annotations

from typing import Annotated

import typer

from twinlens.cli.options import BUNDLE_HELP, DeviceOption, Engines, Json, open_encoder
from twinlens.cli.terminal import print_json


def check(
    bundle: Annotated[str, typer.Argument(help=BUNDLE_HELP)] = "builtin",
    device: DeviceOption = "auto",
    engine: Engines = "auto",
    json: Json = False,
) -> None:
    """Verify every hash of a bundle and replay its golden vectors at each of its precisions.

    [bold]Example:[/] twinlens check my-bundle
    """
    encoder = open_encoder(bundle, device=device, engine=engine)
    others = [variant.precision for variant in encoder.manifest.variants]
    precisions = dict.fromkeys([*encoder.precisions.values(), *others])
    rows = []
    for precision in precisions:
        folder = str(encoder.folder)
        opened = open_encoder(folder, precision=precision, device=device, engine=engine)
        replay = opened.check()
        rows.append(
            {
                "precision": precision,
                "engines": opened.engines,
                "image_cosine": replay.image_cosine,
                "text_cosine": replay.text_cosine,
                "inputs": replay.count,
            }
        )
    if json:
        print_json(
            {"model": encoder.name, "revision": encoder.revision, "ok": True, "golden": rows}
        )
        return
    typer.echo(f"{encoder.name}: {len(encoder.manifest.files)} files match their hashes")
    for row in rows:
        cosines = ", ".join(
            f"{tower} cosine {row[f'{tower}_cosine']:.7f}"
            for tower in ("image", "text")
            if row[f"{tower}_cosine"] is not None
        )
        typer.echo(f"  {row['precision']}: {row['inputs']} golden inputs replayed, {cosines}")
    typer.echo(f"ok: revision {encoder.revision[:12]}")
