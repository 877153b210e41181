"""`twinlens export`: exports a torch model as a verified bundle; writes nothing on failure."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.cli.bundle.calibrate import calibrate_export, find_calibration
from twinlens.cli.bundle.card import CardOption, DomainOption, describe_bundle
from twinlens.cli.bundle.source_names import check_source, find_weights
from twinlens.cli.options import Json
from twinlens.cli.terminal import print_json, print_note
from twinlens.errors import ConflictError, InputError, MissingDependencyError

if TYPE_CHECKING:
    from rich.status import Status

    from twinlens.bundle.manifest import Manifest
    from twinlens.bundle.pull.source import Source


def export(
    source: Annotated[
        str,
        typer.Argument(
            # \[ because the help is rich markup, in which [/...] closes a tag.
            help=(
                "open_clip:ARCH\\[/TAG or /path], timm:NAME\\[/path], a training run's folder, or "
                "hf:OWNER/NAME: a transformers model without ONNX files."
            )
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new bundle.")],
    random_weights: Annotated[
        bool,
        typer.Option("--random-weights", help="Export an untrained model, for tests and timing."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the random weights.")] = 0,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="A tokenizer.json, for text towers other than CLIP's.", metavar="FILE"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model; default: its own.")] = None,
    precisions: Annotated[
        str, typer.Option(help="Precisions to write, comma-separated; fp32 is always written.")
    ] = "fp32,int8,fp16",
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help=(
                "Pictures like those the model will see, to calibrate int8 convolutions and, with"
                " labels or captions, probabilities. Without it, a run's probabilities are"
                " calibrated with its validation data (--eval)."
            ),
            metavar="DATA",
        ),
    ] = None,
    best: Annotated[
        bool, typer.Option("--best", help="For a run: use the best checkpoint by held-out data.")
    ] = False,
    no_attention: Annotated[
        bool, typer.Option("--no-attention", help="Do not export the attention map.")
    ] = False,
    templates: Annotated[
        Path | None,
        typer.Option(help="Zero-shot prompts, one per line, {} for the class.", metavar="FILE"),
    ] = None,
    card: CardOption = None,
    domain: DomainOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
    json: Json = False,
) -> None:
    """Export an encoder as a bundle, verified against torch before it is written.

    [bold]Example:[/] twinlens export open_clip:ViT-B-32 --random-weights -o b32
    """
    prompts = _read_templates(templates)
    _check_card(card, domain)
    weights = find_weights(source)
    if best and not (Path(source) / "checkpoints").is_dir():
        raise InputError(
            f"--best is for runs, and {source} is not a run; leave it out", field="--best"
        )
    if weights is not None:
        _export_weights(weights, out, name or "", force=force, as_json=json)
        if card is not None or domain is not None:
            describe_bundle(out, card, domain)
        if calibrate is not None:
            print_note(calibrate_export(out, calibrate))
        return
    check_source(source)
    wanted = tuple(part.strip() for part in precisions.split(",") if part.strip())
    with _show_progress() as progress:
        progress.stage("loading torch")
        _require_training()
        from twinlens.training.export import SourceOptions, export_encoder, load_source

        progress.stage(f"loading {source}")
        options = SourceOptions(random_weights, seed, tokenizer, name, prompts, best)
        description = load_source(source, options)
        manifest = export_encoder(
            description,
            out,
            precisions=wanted,
            attention=not no_attention,
            calibrate=calibrate,
            force=force,
            progress=progress,
        )
        if card is not None or domain is not None:
            progress.stage("writing the card")
            describe_bundle(out, card, domain)
        known = find_calibration(source, calibrate)
        if known is not None:
            progress.stage("calibrating probabilities")
            progress.note(calibrate_export(out, known))
    _print_result(manifest, out, progress.notes, json)


def _export_weights(source: Source, out: Path, name: str, *, force: bool, as_json: bool) -> None:
    """Trace a transformers model into ONNX files, and make a bundle from them."""
    from importlib.util import find_spec

    if out.exists() and not force:
        raise ConflictError(
            f"{out} exists already; choose another name or overwrite it with --force"
        )
    missing = [library for library in ("torch", "transformers") if find_spec(library) is None]
    if missing:
        raise MissingDependencyError(
            f"exporting {source} needs {' and '.join(missing)}; run: "
            "pip install 'twinlens[cpu,train]' transformers"
        )
    with _show_progress() as progress:
        progress.stage(f"tracing {source} with transformers")
        from twinlens.training.export.hub_graphs import export_from_weights

        manifest = export_from_weights(source, out, name, force=force)
    _print_result(manifest, out, progress.notes, as_json)


class TerminalProgress:
    """Shows the current stage and collects notes: a spinner on a terminal, lines elsewhere."""

    def __init__(self, status: Status | None) -> None:
        self.notes: list[str] = []
        self._status = status
        self._begun = time.monotonic()

    def stage(self, text: str) -> None:
        """Show the stage that starts now."""
        if self._status is not None:
            self._status.update(text)
        else:
            print_note(f"[{time.monotonic() - self._begun:5.1f} s] {text}")

    def note(self, text: str) -> None:
        """Store and show a note."""
        self.notes.append(text)
        if self._status is not None:
            self._status.console.print(f"  {text}", markup=False, highlight=False)
        else:
            print_note(f"          {text}")


@contextmanager
def _show_progress() -> Iterator[TerminalProgress]:
    """Show progress on standard error until the block ends."""
    if not sys.stderr.isatty():
        yield TerminalProgress(None)
        return
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        yield TerminalProgress(status)


def _require_training() -> None:
    """Raise an error with the install command if an import of the export is missing."""
    try:
        import onnx
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"the export needs {error.name}; run: pip install 'twinlens[cpu,train]'"
        ) from None
    del onnx


def _check_card(card: Path | None, domain: Path | None) -> None:
    """Refuse a card or a folder that cannot be used, before the long work."""
    if card is not None:
        from twinlens.bundle.model_card import read_card_file

        read_card_file(card)
    if domain is not None and not domain.is_dir():
        raise InputError(f"--domain {str(domain)!r} is not a folder of pictures", field="domain")


def _read_templates(path: Path | None) -> tuple[str, ...] | None:
    """Return the prompts in the file, one per line."""
    if path is None:
        return None
    if not path.is_file():
        raise InputError(f"--templates {str(path)!r} is not a file", field="templates")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    prompts = tuple(line for line in lines if line)
    wrong = [line for line in prompts if line.count("{}") != 1]
    if wrong or not prompts:
        shown = repr(wrong[0]) if wrong else "nothing"
        raise InputError(
            f"--templates {path} holds {shown}; each line needs {{}} exactly once, for the class",
            field="templates",
        )
    return prompts


def _print_result(manifest: Manifest, out: Path, notes: list[str], as_json: bool) -> None:
    """Print a summary of the bundle."""
    size = sum(entry.bytes for entry in manifest.files)
    if as_json:
        variants = [
            {
                "tower": variant.tower,
                "precision": variant.precision,
                "cosine": variant.cosine,
                "speed": variant.speed,
            }
            for variant in manifest.variants
        ]
        print_json(
            {
                "bundle": str(out),
                "name": manifest.name,
                "revision": manifest.revision,
                "embedding_dim": manifest.embedding_dim,
                "bytes": size,
                "variants": variants,
                "notes": notes,
            }
        )
        return
    typer.echo(
        f"{out}: {manifest.name}, {manifest.embedding_dim} dimensions, {size / 1e6:.0f} MB, "
        f"revision {manifest.revision[:12]}"
    )
