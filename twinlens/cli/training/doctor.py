"""`twinlens doctor RUN`: is this training run healthy, and if not, why and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from twinlens.training.doctor.verdict import Diagnosis


def doctor(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a training run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Also write RUN/report.html: curves, views, maps.")
    ] = False,
) -> None:
    """Say whether a run is healthy. Exit code 0: healthy, 3: sick, 4: too early to tell.

    [bold]Example:[/] twinlens doctor runs/first
    """
    from twinlens.cli.terminal import print_json
    from twinlens.training.doctor.examination import describe, examine

    diagnosis = examine(run)
    if as_json:
        print_json(describe(diagnosis))
    else:
        typer.echo("\n".join(_lines(run, diagnosis)))
    if report:
        from twinlens.cli.terminal import print_note
        from twinlens.training.report.page import write_report

        print_note(f"wrote {write_report(run)}")
    raise typer.Exit(diagnosis.exit_code)


def _lines(run: Path, diagnosis: Diagnosis) -> list[str]:
    lines = [f"{run}: {diagnosis.state}, after {diagnosis.step} steps"]
    for verdict in diagnosis.verdicts:
        lines += [
            "",
            f"{verdict.severity}: {verdict.name}",
            f"  seen    {verdict.what}",
            f"  cause   {verdict.cause}",
            f"  remedy  {verdict.remedy}",
        ]
    readings = [f"  {name:<20} {value:.5g}" for name, value in diagnosis.readings.items()]
    return [*lines, "", "readings", *readings]
