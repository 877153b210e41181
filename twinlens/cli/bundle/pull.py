"""`twinlens pull`: makes a bundle of a ready model, from a hub or a folder; needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.cli.options import Json
from twinlens.cli.terminal import print_json, print_note
from twinlens.errors import ConflictError, InputError

if TYPE_CHECKING:
    from twinlens.bundle.manifest import Manifest
    from twinlens.bundle.pull.bundle_cache import PullRequest
    from twinlens.bundle.pull.options import PullOptions


def pull(
    source: Annotated[
        str,
        typer.Argument(
            help="hf:OWNER/NAME[@REVISION], hf:IMAGE_TOWER+hf:TEXT_TOWER, or the folder of a model."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder of the new bundle; default: the cache, updated from the hub.",
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="Precisions to pull, e.g. fp32,int8; the first available one is the reference."
        ),
    ] = "fp32",
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of the repository.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the model; default: its own.")] = "",
    image_file: Annotated[
        str,
        typer.Option(help="The image tower's ONNX file in the repository.", metavar="PATH"),
    ] = "",
    text_file: Annotated[
        str, typer.Option(help="The text tower's ONNX file in the repository.", metavar="PATH")
    ] = "",
    pooling: Annotated[
        str, typer.Option(help="How a sequence becomes one embedding: cls, mean, max, last.")
    ] = "",
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare with transformers, if it is installed.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
    json: Json = False,
) -> None:
    """Make a bundle from a ready ONNX model, checked against the original files; needs no torch.

    The other commands take the same sources and pull them on first use.

    [bold]Example:[/] twinlens pull hf:Xenova/clip-vit-base-patch32 -o clip
    """
    from twinlens.bundle.pull.options import PullOptions
    from twinlens.bundle.store import read_manifest

    wanted = tuple(part.strip() for part in precision.split(",") if part.strip())
    options = PullOptions(wanted, name, image_file, text_file, pooling, verify)
    request = _read_request(source, revision, options)
    folder = _pull(request, out, force)
    _print_result(folder, read_manifest(folder), json)


def _read_request(source: str, revision: str | None, options: PullOptions) -> PullRequest:
    from twinlens.bundle.pull.bundle_cache import PullRequest
    from twinlens.bundle.pull.source import parse_source

    parsed = parse_source(source)
    if parsed is None:
        path = Path(source).expanduser()
        found = (
            "is a bundle already"
            if (path / "bundle.json").is_file()
            else "holds no model: neither ONNX files, nor weights with a config.json"
            if path.is_dir()
            else "is neither a folder nor a source"
        )
        raise InputError(
            f"{source!r} {found}; write hf:OWNER/NAME[@REVISION] or the folder of a model",
            field="source",
        )
    return PullRequest(parsed.at(revision) if revision else parsed, options)


def _pull(request: PullRequest, out: Path | None, force: bool) -> Path:
    """Pull into a folder, or again into the cache."""
    from twinlens.bundle.pull.bundle_cache import BundleCache, open_repositories, write_bundle_of

    if out is None:
        return BundleCache(tell=print_note).pull(request, anew=True)
    if out.exists() and not force:
        raise ConflictError(
            f"{out} exists already; choose another name or overwrite it with --force"
        )
    repositories = open_repositories(request.source, print_note)
    write_bundle_of(repositories, out, request.options, force=force)
    return out


def _print_result(folder: Path, manifest: Manifest, as_json: bool) -> None:
    size = sum(entry.bytes for entry in manifest.files)
    if as_json:
        print_json(
            {
                "bundle": str(folder),
                "name": manifest.name,
                "revision": manifest.revision,
                "embedding_dim": manifest.embedding_dim,
                "bytes": size,
                "precisions": sorted({"fp32", *(v.precision for v in manifest.variants)}),
            }
        )
        return
    typer.echo(
        f"{folder}: {manifest.name}, {manifest.embedding_dim} dimensions, {size / 1e6:.1f} MB, "
        f"revision {manifest.revision[:12]}"
    )
