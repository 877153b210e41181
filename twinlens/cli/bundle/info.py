"""`twinlens info`: a bundle's summary, from its manifest and measurements on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.cli.bundle.calibrate import describe_calibration
from twinlens.cli.options import BUNDLE_HELP, Json, locate_bundle
from twinlens.cli.terminal import print_json

if TYPE_CHECKING:
    from twinlens.bundle.manifest import Manifest

MOST_NUMBERS = 8  # a value with more is not printed


def info(
    bundle: Annotated[str, typer.Argument(help=BUNDLE_HELP)] = "builtin",
    json: Json = False,
) -> None:
    """Print a bundle's towers, sizes, precisions and provenance.

    [bold]Example:[/] twinlens info builtin
    """
    import dataclasses

    from twinlens.bundle.model_card import read_card
    from twinlens.bundle.store import read_manifest

    folder = locate_bundle(bundle)
    manifest = read_manifest(folder)
    if json:
        print_json(dataclasses.asdict(manifest))
        return
    card = read_card(manifest)
    if card is not None and card.headline:
        typer.secho(f"{manifest.name}: {card.headline}\n", bold=True)
    for label, value in describe_bundle(folder, manifest) + describe_engines(folder, manifest):
        typer.echo(f"{typer.style(f'{label:13}', bold=True)} {value}")


def describe_bundle(folder: Path, manifest: Manifest) -> list[tuple[str, str]]:
    """Return the summary as (label, value) lines."""
    size = sum(entry.bytes for entry in manifest.files)
    lines = [
        ("name", manifest.name),
        ("revision", manifest.revision[:12]),
        ("where", f"{folder} ({len(manifest.files)} files, {size / 1e6:.1f} MB)"),
        ("embedding", _describe_embedding(manifest)),
    ]
    if manifest.image:
        image = manifest.image
        lines.append(
            (
                "image",
                f"{image.width} x {image.height} pixels, {image.resize} side to {image.resize_to}, "
                f"{image.interpolation}",
            )
        )
    if manifest.text:
        text = manifest.text
        padding = "cut to the longest" if text.cut_to_longest else "padded"
        lines.append(
            (
                "text",
                f"up to {text.context_length} tokens, {padding}, {text.tokenizer_kind} tokenizer",
            )
        )
    similarity = manifest.similarity
    bias = f", bias {similarity.bias:g}" if similarity.kind == "sigmoid" else ""
    lines.append(("similarity", f"{similarity.kind}, scale {similarity.scale:g}{bias}"))
    lines += [
        (
            f"{v.tower} {v.precision}",
            f"cosine {v.cosine:.6f} to fp32, {v.speed:.2f} x its speed",
        )
        for v in manifest.variants
    ]
    if manifest.attention:
        grid = manifest.attention
        lines.append(("attention", f"{grid.heads} heads over {grid.rows} x {grid.columns} patches"))
    lines.append(("templates", ", ".join(manifest.templates)))
    lines += _describe_extensions(manifest)
    return lines + [(str(k), _describe_value(v)) for k, v in sorted(manifest.provenance.items())]


def describe_engines(folder: Path, manifest: Manifest) -> list[tuple[str, str]]:
    """Return which engine `auto` takes for each tower here, where there are two to choose from."""
    from twinlens.bundle.session import Runtime
    from twinlens.bundle.tower import TowerName, find_tower_file
    from twinlens.bundle.trial import can_choose, recall_choice

    runtime = Runtime()
    if not can_choose(runtime):
        return []
    towers: dict[TowerName, object] = {"image": manifest.image, "text": manifest.text}
    lines = []
    for name in (name for name, spec in towers.items() if spec):
        choice = recall_choice(find_tower_file(folder, manifest, name, "fp32"), runtime)
        said = f"{choice.engine}: {choice.reason}" if choice else "measured when it is first opened"
        lines.append((f"{name} engine", said))
    return lines


def _describe_extensions(manifest: Manifest) -> list[tuple[str, str]]:
    """Return the card's fields and the domain sign in words, and other extensions as they are."""
    from twinlens.bundle.calibration.calibration import EXTENSION as CALIBRATION
    from twinlens.bundle.calibration.calibration import read_calibration
    from twinlens.bundle.domain.domain_sign import EXTENSION, read_sign
    from twinlens.bundle.model_card import EXTENSION as CARD
    from twinlens.bundle.model_card import read_card

    card, sign = read_card(manifest), read_sign(manifest)
    lines = []
    for name, value in sorted(manifest.extensions.items()):
        if name == CARD and card is not None:
            lines += [(k.replace("_", " "), _join(v)) for k, v in card.to_extension().items()]
        elif name == EXTENSION and sign is not None:
            lines.append(("domain sign", f"learned from {_describe_value(value['references'])}"))
        elif name == CALIBRATION and read_calibration(manifest) is not None:
            lines += [(name, line) for line in describe_calibration(value)]
        else:
            lines.append((name, _describe_value(value)))
    return lines


def _join(value: object) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def _describe_embedding(manifest: Manifest) -> str:
    if manifest.any_dimension:
        return f"{manifest.embedding_dim} dimensions, or any shorter"
    shorter = ", ".join(map(str, manifest.matryoshka_dims))
    return f"{manifest.embedding_dim} dimensions" + (f", or {shorter}" if shorter else "")


def _describe_value(value: object) -> str:
    """Return a value of the provenance as text; for a list of named things, their names."""
    if (count := _count_numbers(value)) > MOST_NUMBERS:
        return f"{count} values; --json prints them"
    if isinstance(value, dict):
        return ", ".join(f"{k} {_describe_value(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_describe_value(_find_name(item)) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _count_numbers(value: object) -> int:
    """Return how many numbers a value holds."""
    if isinstance(value, dict):
        return sum(map(_count_numbers, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_count_numbers, value))
    return int(isinstance(value, int | float))


def _find_name(item: object) -> object:
    return item.get("name", item) if isinstance(item, dict) else item
