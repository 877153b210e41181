"""`twinlens compare A B DATA`: encoders on the same questions, with paired intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinlens.cli.options import Json, open_encoder
from twinlens.cli.terminal import print_json, print_note
from twinlens.cli.training.evaluate import Seed, SuiteNames, check_bundle
from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.bundle.encoder import Encoder
    from twinlens.training.suites.comparison import Difference
    from twinlens.training.suites.examinee import Examinee
    from twinlens.training.suites.material import Material
    from twinlens.training.suites.result import Result


def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="A B [C ...] DATA", help="Bundles, and data to compare them on."),
    ] = None,
    suite: SuiteNames = "all",
    limit: Annotated[int, typer.Option(help="Most images of DATA; 0: all.", min=0)] = 1000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compare bundles with the first one, on the same questions.

    Differences are paired and have a 95 % interval; if it contains zero, there is no winner.

    [bold]Example:[/] twinlens compare builtin other.bundle test.zip
    """
    from twinlens.training.suites.examinee import make_examinee
    from twinlens.training.suites.material import read_material

    *bundles, where = names or [""]
    if len(bundles) < 2:
        raise InputError(
            "compare needs two bundles or more, and data: twinlens compare A B DATA", field="DATA"
        )
    for bundle in bundles:
        check_bundle(bundle)
    encoders = [open_encoder(bundle) for bundle in bundles]
    examinees = [make_examinee(encoder) for encoder in encoders]
    material = read_material(where, limit, seed=seed)
    if material.unreadable:
        print_note(f"{material.unreadable} images of {where} cannot be decoded and are left out")
    facts = [_describe(*pair) for pair in zip(bundles, encoders, strict=True)]
    if not as_json:
        _print_facts(facts)
    compared = _compare(examinees, material, suite, seed, show=not as_json)
    if as_json:
        found = dict(zip(bundles[1:], compared, strict=True))
        print_json({"bundles": facts, "differences": found})


def _compare(
    examinees: list[Examinee], material: Material, names: str, seed: int, *, show: bool
) -> list[list[dict[str, Any]]]:
    """Return for each bundle after the first its differences, suite by suite."""
    from twinlens.training.suites.catalogue import pick_suites, run_suite
    from twinlens.training.suites.comparison import compare_results

    rows: list[list[dict[str, Any]]] = [[] for _ in examinees[1:]]
    reads_texts = all(examinee.reads_texts for examinee in examinees)
    for suite in pick_suites(names, material, reads_texts=reads_texts):
        results = [run_suite(suite, examinee, material, seed=seed) for examinee in examinees]
        differences = [compare_results(results[0], other, seed=seed) for other in results[1:]]
        for own, difference in zip(rows, differences, strict=True):
            own.append(difference.to_json())
        if show:
            _print_differences(results, differences)
    return rows


def _describe(bundle: str, encoder: Encoder) -> dict[str, Any]:
    """Return size, dimensions and speed of a bundle; speeds are measured one after another."""
    from twinlens.bundle.model_speed import measure_speed

    speed = measure_speed(encoder)
    size = sum(entry.bytes for entry in encoder.manifest.files)
    return {
        "bundle": bundle,
        "megabytes": round(size / 1e6, 1),
        "dimensions": encoder.embedding_dim,
        "images_per_second": speed.images_per_second,
        "texts_per_second": speed.texts_per_second,
    }


def _print_facts(facts: list[dict[str, Any]]) -> None:
    for letter, fact in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", facts, strict=False):
        typer.echo(
            f"{letter}  {fact['bundle']}: {fact['megabytes']} MB, {fact['dimensions']} dimensions,"
            f" {fact['images_per_second']} images/s, {fact['texts_per_second']} texts/s"
        )


def _print_differences(results: list[Result], differences: list[Difference]) -> None:
    chance = 100 * results[0].measure.chance
    typer.secho(f"{results[0].suite}  (chance {chance:.1f})", bold=True)
    typer.echo(f"  A  {100 * results[0].measure.score:5.1f} %")
    for letter, difference in zip("BCDEFGHIJKLMNOPQRSTUVWXYZ", differences, strict=False):
        better = {"first": "A is better", "other": f"{letter} is better"}
        typer.echo(
            f"  {letter}  {100 * difference.other:5.1f} %  {100 * difference.change:+.1f}"
            f" [{100 * difference.low:+.1f} to {100 * difference.high:+.1f}]"
            f"  {better.get(difference.winner, 'no difference shown')}"
        )
