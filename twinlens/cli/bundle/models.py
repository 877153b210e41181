"""`twinlens models`: a table of ready models, with their measured speed on request."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinlens.cli.options import Json
from twinlens.cli.terminal import print_json, print_note, track
from twinlens.errors import TwinlensError

if TYPE_CHECKING:
    from twinlens.bundle.model_speed import ModelSpeed
    from twinlens.bundle.ready_models import ReadyModel

_HEADS = ("source", "good for", "languages", "dims", "size", "licence", "tried")
_PAGE = "https://github.com/twinlens/twinlens/blob/main/docs/models.md"


def models(
    find: Annotated[
        str, typer.Argument(help="Show only lines that contain this word.", metavar="[WORD]")
    ] = "",
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Measure the speed of each model that opens here without a network."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """List ready models: what each is good for, its languages, dimensions, size and licence.

    [bold]Example:[/] twinlens models photographs
    """
    from twinlens.bundle.ready_models import READY_MODELS

    rows = [model for model in READY_MODELS if find.lower() in _text_of(model)]
    speeds = _measure(rows) if measure else {}
    if json:
        print_json([_describe(model, speeds) for model in rows])
        return
    _print_table(rows, speeds if measure else None)
    print_note(f"\n'not tried': the row repeats the publisher; we have not run the model. {_PAGE}")


def _measure(rows: list[ReadyModel]) -> dict[str, ModelSpeed | str]:
    """Return the speed of each model by source, or why it was not measured."""
    from twinlens.bundle.model_speed import measure_speed, open_offline

    found: dict[str, ModelSpeed | str] = {}
    for model in track(rows, "measuring", len(rows)):
        try:
            found[model.source] = measure_speed(open_offline(model.source))
        except TwinlensError as error:
            found[model.source] = error.message
    return found


def _describe(model: ReadyModel, speeds: dict[str, ModelSpeed | str]) -> dict[str, Any]:
    fields = dataclasses.asdict(model)
    speed = speeds.get(model.source)
    if isinstance(speed, str):
        return fields | {"speed": None, "not_measured": speed}
    return fields | {"speed": None if speed is None else dataclasses.asdict(speed)}


def _text_of(model: ReadyModel) -> str:
    fields = (model.source, model.good_for, model.languages, model.licence, *model.modalities)
    return " ".join(fields).lower()


def _print_table(rows: list[ReadyModel], speeds: dict[str, ModelSpeed | str] | None) -> None:
    """Print a line per model, with two more columns if speeds were measured."""
    heads = (*_HEADS, "images/s", "texts/s") if speeds is not None else _HEADS
    lines = [heads, *(_cells(model) for model in rows)]
    if speeds is not None:
        measured = [_speed_cells(speeds[model.source]) for model in rows]
        lines = [heads, *(line + cells for line, cells in zip(lines[1:], measured, strict=True))]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    for line in lines:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        typer.secho(text.rstrip(), bold=line is heads)


def _cells(model: ReadyModel) -> tuple[str, ...]:
    size = f"{model.megabytes} MB" if model.megabytes < 1000 else f"{model.megabytes / 1000:.1f} GB"
    state = "yes" if model.tried else "not tried"
    return (
        model.source,
        model.good_for,
        model.languages or "-",
        str(model.dimensions),
        size,
        model.licence,
        f"{state}, gated" if model.gated else state,
    )


def _speed_cells(speed: ModelSpeed | str) -> tuple[str, str]:
    if isinstance(speed, str):
        return "-", "-"
    rates = (speed.images_per_second, speed.texts_per_second)
    return tuple("-" if rate is None else f"{rate:.0f}" for rate in rates)  # type: ignore[return-value]
