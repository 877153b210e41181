"""`twinlens train METHOD DATA --out RUN`: from a folder of images to a trained encoder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.training.config import Config


def train(
    method: Annotated[str, typer.Argument(help="One of --list.")] = "",
    where: Annotated[
        str, typer.Argument(metavar="DATA", help="Image folder, .zip, .tar shards, .csv, .parquet.")
    ] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run.")] = None,
    recipe: Annotated[str, typer.Option(help="Named settings to start from.")] = "default",
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting that overrides the recipe: key=value."),
    ] = None,
    held_out: Annotated[
        str, typer.Option("--eval", metavar="DATA", help="Held-out data to validate on.")
    ] = "",
    eval_every: Annotated[
        int, typer.Option(help="Steps between validations; 0: once per epoch.", min=0)
    ] = 0,
    listing: Annotated[bool, typer.Option("--list", help="Print the methods and recipes.")] = False,
    find_lr: Annotated[
        bool,
        typer.Option("--find-lr", help="Try rising learning rates, print a suggestion, and stop."),
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the settings and stop.")] = False,
) -> None:
    """Train an encoder; rerun the command to resume an interrupted run.

    [bold]Example:[/] twinlens train simclr photos/ --out run --set steps=1000
    """
    from twinlens.training.ranges import check_config
    from twinlens.training.recipes import describe_methods, open_recipe

    if listing:
        typer.echo("\n".join(describe_methods()))
        return
    if not method:
        raise InputError("name a method; twinlens train --list shows them", field="METHOD")
    from twinlens.training.runs.starting import apply_pairs

    pairs = list(sets or [])
    pairs += [f"eval={held_out}"] if held_out else []
    pairs += [f"eval_every={eval_every}"] if eval_every else []
    config = apply_pairs(open_recipe(method, recipe), pairs)
    check_config(config)
    if show:
        typer.echo(config.to_json(), nl=False)
        return
    if find_lr and where:
        _find(config, where, out)
        return
    if not where or out is None:
        raise InputError("give the data and --out RUN", field="--out" if where else "DATA")
    _run(config, where, out)


def _find(config: Config, where: str, out: Path | None) -> None:
    from twinlens.training.progress import open_display
    from twinlens.training.studies.lr_finder import find_rate

    display = open_display()
    try:
        rate, trial = find_rate(config, where, display)
    finally:
        display.close()
    if out is not None:
        plot = out.with_name(f"{out.name}.find-lr.html")
        plot.write_text(trial.page(), encoding="utf-8")
    typer.echo(f"lr={rate:.3g}")


def _run(config: Config, where: str, out: Path) -> None:
    from twinlens.training.distributed.launch import run_ranks, wants_launch
    from twinlens.training.loop.loop import train as train_run
    from twinlens.training.progress import Silent, open_display
    from twinlens.training.report.page import write_report

    if wants_launch(config.settings.devices):
        code = run_ranks(config.settings.devices, config.settings.device, sys.argv[1:])
        if code:
            raise typer.Exit(code)
        return
    is_first = os.environ.get("RANK", "0") == "0"  # torchrun starts this command once a rank
    display = open_display() if is_first else Silent()
    try:
        finished = train_run(config, where, out, display)
    finally:
        display.close()
    if not is_first:
        return
    write_report(out)
    typer.echo(
        f"trained {config.method} for {finished.step} steps in {finished.seconds:.0f} s; run: {out}"
    )
    if finished.best:
        typer.echo(f"{finished.best}; validation took {finished.validation:.0f} s of that")
