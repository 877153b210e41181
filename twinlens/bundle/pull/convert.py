"""Turns the files of one or two repositories into a bundle.

What must stay true: a bundle appears only after the fitted graphs reproduced the embeddings of the
original files; a failure leaves nothing on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twinlens.bundle.manifest import Manifest
from twinlens.bundle.pull.head import check_pooling
from twinlens.bundle.pull.layouts.table import find_model
from twinlens.bundle.pull.options import PullOptions
from twinlens.bundle.pull.repository import Repository
from twinlens.errors import ConflictError, InputError, MissingDependencyError

__all__ = ["PRECISIONS", "PullOptions", "write_pulled_bundle"]

PRECISIONS = ("fp32", "fp16", "int8")


def write_pulled_bundle(
    repositories: Sequence[Repository], out: Path, options: PullOptions, *, force: bool = False
) -> Manifest:
    """Write the model of `repositories` (one, or one for each tower) as the bundle `out`."""
    _check_request(out, options, force)
    found = find_model(repositories, options.image_file, options.text_file)
    try:
        from twinlens.bundle.pull.fitting.assembly import assemble
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise MissingDependencyError(
            "pulling a model needs the onnx package; run: pip install onnx"
        ) from None
    return assemble(found, out, options, force=force)


def _check_request(out: Path, options: PullOptions, force: bool) -> None:
    """Refuse impossible requests before any download."""
    unknown = [precision for precision in options.precisions if precision not in PRECISIONS]
    if unknown or not options.precisions:
        raise InputError(
            f"precision {(unknown or [''])[0]!r} is unknown; choose from {', '.join(PRECISIONS)}",
            field="precision",
        )
    check_pooling(options.pooling)
    if out.exists() and not force:
        raise ConflictError(
            f"{out} exists already; choose another name or overwrite it with --force"
        )
