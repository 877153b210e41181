"""`twinlens eval RUN_OR_BUNDLE DATA`: what an encoder is worth, in numbers."""

from __future__ import annotations

from typing import Annotated

import typer

from twinlens.cli.options import Json
from twinlens.cli.terminal import print_json


def evaluate(
    encoder: Annotated[str, typer.Argument(metavar="RUN_OR_BUNDLE", help="A run or a bundle.")],
    where: Annotated[str, typer.Argument(metavar="DATA", help="Data to be judged on.")],
    bank: Annotated[
        str,
        typer.Option(help="Labelled data that kNN and probes learn from; default: half of DATA."),
    ] = "",
    limit: Annotated[int, typer.Option(help="Images of each at most; 0: all.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Measure kNN, linear probe, few-shot, zero-shot, retrieval and spectrum.

    [bold]Example:[/] twinlens eval run test.zip --bank train.zip
    """
    from twinlens.training.evaluation.report import evaluate_encoder
    from twinlens.training.progress import open_display

    display = open_display()
    try:
        found = evaluate_encoder(encoder, where, bank=bank, limit=limit, display=display)
    finally:
        display.close()
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        typer.echo(f"{name:<24} {value}")
