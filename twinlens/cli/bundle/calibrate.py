"""`twinlens calibrate`: fit the calibration of a bundle, whose revision does not change."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from twinlens.cli.options import Json, open_encoder
from twinlens.cli.terminal import print_json, print_note
from twinlens.errors import InputError


def calibrate(
    bundle: Annotated[str, typer.Argument(help="Path of the bundle.", metavar="BUNDLE")],
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help="Pictures with labels or captions, not used to train the model.",
        ),
    ],
    limit: Annotated[int, typer.Option(help="Most images of each DATA; 0: 2000.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the sampled questions.", min=0)] = 0,
    json: Json = False,
) -> None:
    """Learn from known pictures how reliable a bundle's scores are, and when no class fits.

    Learns from half of the pictures and measures on the other half. Needs no torch.

    [bold]Example:[/] twinlens calibrate my-bundle test.zip
    """
    found = calibrate_bundle(bundle, data, limit=limit, seed=seed)
    if json:
        print_json(found)
        return
    for line in describe_calibration(found):
        typer.echo(line)
    typer.echo(f"{bundle}: calibration written; the revision is unchanged")


def calibrate_bundle(
    bundle: str | Path, data: Sequence[str], *, limit: int = 0, seed: int = 0
) -> dict[str, Any]:
    """Write the calibration into the bundle; return it as it was written."""
    from twinlens.bundle.calibration.calibration import EXTENSION
    from twinlens.bundle.store import write_extensions
    from twinlens.training.suites.doubt import MOST, learn_calibration
    from twinlens.training.suites.examinee import make_examinee
    from twinlens.training.suites.material import read_material

    encoder = open_encoder(str(bundle))
    examinee = make_examinee(encoder)
    materials = [read_material(where, limit or MOST, seed=seed) for where in data]
    for where, material in zip(data, materials, strict=True):
        if material.unreadable:
            print_note(
                f"{material.unreadable} images of {where} cannot be decoded and are left out"
            )
    found = learn_calibration(examinee, materials, seed=seed).to_extension()
    write_extensions(encoder.folder, {EXTENSION: found})
    return found


def find_calibration(source: str, given: Path | None) -> Path | None:
    """Return the data that calibrate an export: those given, or what a run was validated on."""
    run = Path(source)
    if given is not None or not (run / "checkpoints").is_dir():
        return given
    settings = json_module.loads((run / "config.json").read_text(encoding="utf-8"))["settings"]
    return Path(settings["eval"]) if settings.get("eval") else None


def calibrate_export(out: Path, data: Path) -> str:
    """Calibrate a new bundle if its towers and the data allow; return the result as a line."""
    from twinlens.bundle.store import read_manifest

    manifest = read_manifest(out)
    if manifest.image is None or manifest.text is None:
        return "probabilities: not calibrated, which takes an image and a text tower"
    try:
        found = calibrate_bundle(out, [str(data)])
    except InputError as error:
        return f"probabilities: not calibrated, {error.message}"
    return f"probabilities: {'; '.join(describe_calibration(found))}"


def describe_calibration(extension: dict[str, Any]) -> list[str]:
    """Return what a calibration measured, in lines."""
    measured = extension["measured"]
    classes = measured["classes"]
    by = [f"{data['pictures']} pictures of {name}" for name, data in extension["source"].items()]
    return [
        f"by {', '.join(by)}",
        f"temperature {extension['temperature']:g}",
        f"pictures of none of {classes} classes: {measured['mistakes']:.1%} accepted wrongly",
        f"pictures of one of {classes} classes: {measured['refusals']:.1%} rejected wrongly",
        f"expected calibration error {measured['ece']:.3f}, calibrated"
        f" {measured['ece_calibrated']:.3f}",
    ]
