"""`twinlens eval`: measures an encoder, by standard metrics or by suites of questions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.cli.options import Json, open_encoder
from twinlens.cli.terminal import print_json, print_note
from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.training.suites.material import Material
    from twinlens.training.suites.result import Measure, Result

SuiteNames = Annotated[
    str, typer.Option(help="Suites of questions, comma-separated; `all`: those DATA allow.")
]
Seed = Annotated[int, typer.Option(help="Seed of the questions and intervals.", min=0)]
_SHOWN_GROUPS = 30


def evaluate(
    encoder: Annotated[str, typer.Argument(metavar="[ENCODER]", help="A run or a bundle.")] = "",
    where: Annotated[str, typer.Argument(metavar="[DATA]", help="Data to evaluate on.")] = "",
    suite: SuiteNames = "",
    list_suites: Annotated[
        bool, typer.Option("--list", help="Print what each suite asks and which data it needs.")
    ] = False,
    bank: Annotated[
        str,
        typer.Option(help="Labelled data to fit kNN and probes on; default: half of DATA."),
    ] = "",
    names: Annotated[
        Path | None,
        typer.Option(help="JSON file for `languages`: {language: {English name: name}}."),
    ] = None,
    limit: Annotated[int, typer.Option(help="Most images of each data set; 0: all.", min=0)] = 0,
    best: Annotated[
        bool, typer.Option("--best", help="For a run: use the best checkpoint by held-out data.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="HTML file for the suites, with the worst cases.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure kNN, linear probe, few-shot, zero-shot, retrieval and spectrum, or run suites.

    Suites test bundles and need no torch; each score comes with chance and a 95 % interval.

    [bold]Example:[/] twinlens eval run test.zip --bank train.zip

    [bold]Example:[/] twinlens eval builtin test.zip --suite all --report report.html
    """
    if list_suites:
        _print_suites()
    elif best and suite:
        raise InputError("--best is for runs, and suites need a bundle", field="--best")
    elif not encoder:
        raise InputError("ENCODER is missing; give a run, a bundle or `builtin`", field="ENCODER")
    elif suite:
        material = _read(where, limit, seed, names)
        _ask(encoder, material, suite, seed=seed, report=report, as_json=as_json)
    elif not where:
        raise InputError(
            "DATA is missing; give data to evaluate on, or use `--suite relations`",
            field="DATA",
        )
    elif report is not None:
        raise InputError("--report is for suites; add `--suite all`", field="--report")
    else:
        _measure(encoder, where, bank, limit, as_json, best=best)


def _print_suites() -> None:
    from twinlens.training.suites.catalogue import describe_suites

    for line in describe_suites():
        typer.echo(line)


def _measure(encoder: str, where: str, bank: str, limit: int, as_json: bool, *, best: bool) -> None:
    from twinlens.training.evaluation.report import evaluate_encoder
    from twinlens.training.progress import open_display

    display = open_display()
    try:
        found = evaluate_encoder(encoder, where, bank=bank, limit=limit, display=display, best=best)
    finally:
        display.close()
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        typer.echo(f"{name:<24} {value}")


def _read(where: str, limit: int, seed: int, names: Path | None) -> Material:
    from twinlens.training.suites.material import Material, read_material

    if not where:
        return Material("no data")
    material = read_material(where, limit, seed=seed, names=names)
    if material.unreadable:
        print_note(f"{material.unreadable} images of {where} cannot be decoded and are left out")
    return material


def _ask(
    encoder: str,
    material: Material,
    names: str,
    *,
    seed: int,
    report: Path | None,
    as_json: bool,
) -> None:
    from twinlens.training.suites.catalogue import pick_suites, run_suite
    from twinlens.training.suites.examinee import make_examinee
    from twinlens.training.suites.report import write_report

    check_bundle(encoder)
    examinee = make_examinee(open_encoder(encoder))
    results = []
    for suite in pick_suites(names, material, reads_texts=examinee.reads_texts):
        result = run_suite(suite, examinee, material, seed=seed)
        results.append(result)
        if not as_json:
            _print_result(result)
    if as_json:
        print_json([result.to_json() for result in results])
    if report is not None:
        write_report(report, f"{examinee.name} on {material.name}", results)
        print_note(f"wrote {report}")


def check_bundle(encoder: str) -> None:
    """Raise for a run: suites ask bundles."""
    if (Path(encoder) / "config.json").is_file() and not (Path(encoder) / "bundle.json").is_file():
        raise InputError(
            f"{encoder} is a run, and suites need a bundle; export it first:"
            f" twinlens export {encoder} -o BUNDLE",
            field="ENCODER",
        )


def _print_result(result: Result) -> None:
    typer.secho(f"{result.suite:<24} {_show(result.measure)}", bold=True)
    if len(result.groups) <= _SHOWN_GROUPS:
        for name, measure in result.groups.items():
            typer.echo(f"  {name:<22} {_show(measure)}")
    for name, value in result.numbers.items():
        typer.echo(f"  {name:<22} {value:g}")


def _show(measure: Measure) -> str:
    """Return a measure in per cent."""
    score, low, high = 100 * measure.score, 100 * measure.low, 100 * measure.high
    return (
        f"{score:5.1f} %  [{low:.1f} to {high:.1f}]  chance {100 * measure.chance:.1f}"
        f"  n {measure.n}"
    )
