"""`twinlens card`: write a bundle's card and domain sign; its revision does not change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from twinlens.cli.options import Json, open_encoder
from twinlens.cli.terminal import print_json, print_note
from twinlens.errors import InputError

CardOption = Annotated[
    Path | None,
    typer.Option(
        "--card",
        help="JSON file: domain, good_for, not_for, languages, licence, training_data.",
        metavar="FILE",
    ),
]
DomainOption = Annotated[
    Path | None,
    typer.Option(
        "--domain",
        help="Pictures that the model is for, one folder per kind, to learn when to warn.",
        metavar="FOLDER",
    ),
]


def card(
    bundle: Annotated[str, typer.Argument(help="Path of the bundle.", metavar="BUNDLE")],
    card: CardOption = None,
    domain: DomainOption = None,
    json: Json = False,
) -> None:
    """Write what a model is for, and learn from its pictures when to warn about others.

    [bold]Example:[/] twinlens card my-bundle --card card.json --domain pictures/
    """
    if card is None and domain is None:
        raise InputError("nothing to write; give --card FILE, --domain FOLDER, or both")
    found = describe_bundle(bundle, card, domain)
    if json:
        print_json(found)
    else:
        typer.echo(f"{bundle}: {' and '.join(found)} written; the revision is unchanged")


def describe_bundle(bundle: str | Path, card: Path | None, domain: Path | None) -> dict[str, Any]:
    """Write the card and the domain sign into the bundle; return both as they were written."""
    from twinlens.bundle.domain import domain_sign
    from twinlens.bundle.domain.domain_pictures import learn_folder
    from twinlens.bundle.model_card import EXTENSION, read_card_file
    from twinlens.bundle.store import write_extensions

    found: dict[str, Any] = {}
    if card is not None:
        found[EXTENSION] = read_card_file(card).to_extension()
    encoder = open_encoder(str(bundle))
    if domain is not None:
        print_note(f"learning the domain of {encoder.name} from {domain}")
        sign = learn_folder(encoder, domain)
        for group, shares in sign.false_alarms.items():
            one, eight = shares["1"], shares["8"]
            shown = f"{one:.1%} of single pictures, {eight:.1%} of groups of eight"
            print_note(f"  {group}: warns about {shown}")
        found[domain_sign.EXTENSION] = sign.to_extension()
    write_extensions(encoder.folder, found)
    return found
