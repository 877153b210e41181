"""Picture files given on the command line, embedded so that a bad one fails alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from twinlens.cli.terminal import link_path, print_error, track
from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.bundle.arrays import Rows
    from twinlens.bundle.encoder import Encoder

_CHUNK = 32


@dataclass(frozen=True)
class EmbeddedFiles:
    """The files that could be read, a row for each, and why the others failed."""

    paths: list[Path]
    rows: Rows
    faults: dict[Path, str]

    def describe_faults(self) -> list[dict[str, str]]:
        """Return the files that failed as entries of JSON."""
        return [{"image": str(path), "error": reason} for path, reason in self.faults.items()]

    def report(self) -> None:
        """Print a line for each file that failed, and exit with 2 if there is one."""
        for path, reason in self.faults.items():
            print_error(reason if str(path) in reason else f"{path}: {reason}")
        if self.faults:
            raise typer.Exit(2)


def embed_files(encoder: Encoder, paths: Sequence[Path], doing: str) -> EmbeddedFiles:
    """Embed picture files; raise if none of them can be read."""
    import numpy as np

    rows: list[Rows] = []
    faults: dict[Path, str] = {}
    starts = range(0, len(paths), _CHUNK)
    for start in track(starts, f"{doing} {len(paths)} images", len(starts)):
        chunk = paths[start : start + _CHUNK]
        try:
            rows.append(encoder.embed_images(chunk))
        except InputError:
            rows += _embed_one_by_one(encoder, chunk, faults)
    if not rows:
        raise InputError(next(iter(faults.values())), field="images")
    good = [path for path in paths if path not in faults]
    return EmbeddedFiles(good, np.concatenate(rows), faults)


def print_file(path: Path, verdict: str) -> None:
    """Print the name of a picture file, as a link where the terminal opens one."""
    typer.secho(f"{link_path(path)}{verdict}", bold=True)


def _embed_one_by_one(
    encoder: Encoder, paths: Sequence[Path], faults: dict[Path, str]
) -> list[Rows]:
    rows = []
    for path in paths:
        try:
            rows.append(encoder.embed_images([path]))
        except InputError as error:
            faults[path] = error.message
    return rows
