"""`twinlens info`: a bundle's summary, read from its manifest alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.cli.options import BUNDLE_HELP, Json, locate_bundle
from twinlens.cli.terminal import print_json

if TYPE_CHECKING:
    from twinlens.bundle.manifest import Manifest


def info(
    bundle: Annotated[str, typer.Argument(help=BUNDLE_HELP)] = "builtin",
    json: Json = False,
) -> None:
    """Print a bundle's towers, sizes, precisions and provenance.

    [bold]Example:[/] twinlens info builtin
    """
    import dataclasses

    from twinlens.bundle.store import read_manifest

    folder = locate_bundle(bundle)
    manifest = read_manifest(folder)
    if json:
        print_json(dataclasses.asdict(manifest))
        return
    for label, value in describe_bundle(folder, manifest):
        typer.echo(f"{typer.style(f'{label:12}', bold=True)} {value}")


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
    lines += [(name, _describe_value(value)) for name, value in sorted(manifest.extensions.items())]
    return lines + [(str(k), _describe_value(v)) for k, v in sorted(manifest.provenance.items())]


def _describe_embedding(manifest: Manifest) -> str:
    if manifest.any_dimension:
        return f"{manifest.embedding_dim} dimensions, or any shorter"
    shorter = ", ".join(map(str, manifest.matryoshka_dims))
    return f"{manifest.embedding_dim} dimensions" + (f", or {shorter}" if shorter else "")


def _describe_value(value: object) -> str:
    """Return a value of the provenance as text; for a list of named things, their names."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {_describe_value(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_describe_value(_find_name(item)) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _find_name(item: object) -> object:
    return item.get("name", item) if isinstance(item, dict) else item
