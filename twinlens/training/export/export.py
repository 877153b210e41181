"""From a described encoder to a verified bundle: trace, save, compare, reduce precision, write.

What must stay true: a bundle appears only after each of its towers passed the parity gate; a
failure or an interruption leaves nothing on disk.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from twinlens.bundle.class_head import EXTENSION as HEADS
from twinlens.bundle.class_head import write_head
from twinlens.bundle.golden import write_golden
from twinlens.bundle.manifest import (
    AttentionSpec,
    ImageSpec,
    Manifest,
    SimilaritySpec,
    TextSpec,
    Variant,
)
from twinlens.bundle.model_card import EXTENSION
from twinlens.bundle.samples import golden_images, golden_texts
from twinlens.bundle.store import write_bundle
from twinlens.bundle.text.tokenizer import open_tokenizer
from twinlens.errors import ConflictError, InputError
from twinlens.kernels.onnx.attach import build_similarity
from twinlens.training.export.description import (
    IMAGE_FILE,
    SIMILARITY_FILE,
    Description,
    ImageTower,
    TextTower,
)
from twinlens.training.export.gate import EmbeddingRows, check_parity
from twinlens.training.export.graphs import save_graphs, trace
from twinlens.training.export.int8.calibration import CalibrationPictures, read_pictures
from twinlens.training.export.progress import ExportProgress, LoggedProgress
from twinlens.training.export.provenance import describe_versions
from twinlens.training.export.towers import (
    ExportTower,
    prepare_attention,
    prepare_image,
    prepare_text,
    write_tokenizer,
)
from twinlens.training.export.variants import (
    PLAIN_CONVOLUTIONS,
    PRECISIONS,
    add_variants,
)


@dataclass(frozen=True)
class _Wishes:
    """The caller's options."""

    precisions: tuple[str, ...]
    attention: bool
    calibration: CalibrationPictures | None
    plain: tuple[int, ...] = PLAIN_CONVOLUTIONS


@dataclass
class _Parts:
    """What the export collects for the manifest."""

    image: ImageSpec | None = None
    text: TextSpec | None = None
    attention: AttentionSpec | None = None
    variants: list[Variant] = field(default_factory=list)
    rows: dict[str, EmbeddingRows] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)  # by tower
    extensions: dict[str, Any] = field(default_factory=dict)


def export_encoder(
    description: Description,
    out: Path | str,
    *,
    precisions: Sequence[str] = PRECISIONS,
    attention: bool = True,
    calibrate: Path | None = None,
    plain_convolutions: Sequence[int] = PLAIN_CONVOLUTIONS,
    force: bool = False,
    progress: ExportProgress | None = None,
) -> Manifest:
    """Write `description` as the bundle `out` and return its manifest.

    Raises `ParityError`, leaving nothing on disk, if ONNX Runtime does not reproduce torch's
    embeddings. fp32 is always written; int8 is dropped with a note if it differs too much.
    `calibrate` is a data set whose pictures calibrate int8 convolutions; without it drawn textures
    do. `plain_convolutions` lists how many of the first convolutions to keep in fp32; the first
    number that preserves the embeddings is used.
    """
    out = Path(out)
    _check_request(description, out, precisions, force)
    pictures = None if calibrate is None else read_pictures(calibrate)
    wishes = _Wishes(tuple(precisions), attention, pictures, tuple(plain_convolutions))
    reporter = progress or LoggedProgress()
    out.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=f".{out.name}.export-", dir=out.parent))
    try:
        parts = _Parts()
        if description.image is not None:
            _export_image(description.image, workshop, wishes, parts, reporter)
        if description.text is not None:
            _export_text(description.text, workshop, wishes, parts, reporter)
        reporter.stage("writing the bundle")
        _write_rest(description, workshop, parts)
        manifest = _build_manifest(description, parts)
        return write_bundle(out, manifest, lambda folder: _move(workshop, folder), force=force)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _check_request(
    description: Description, out: Path, precisions: Sequence[str], force: bool
) -> None:
    """Refuse invalid requests before any work."""
    unknown = sorted(set(precisions) - set(PRECISIONS))
    if unknown:
        raise InputError(
            f"precision {unknown[0]!r} is unknown; choose from {', '.join(PRECISIONS)}",
            field="precisions",
        )
    if description.image is None and description.text is None:
        raise InputError(f"{description.name!r} has no tower; give an image or a text tower")
    if out.exists() and not force:
        raise ConflictError(
            f"{out} exists already; choose another name or overwrite it with --force"
        )


def _export_image(
    image: ImageTower,
    folder: Path,
    wishes: _Wishes,
    parts: _Parts,
    reporter: ExportProgress,
) -> None:
    """Write the image tower with its attention map and variants."""
    reporter.stage("computing the golden image embeddings in torch")
    tower = prepare_image(image, golden_images(), reporter.note)
    reporter.stage("tracing the image tower")
    graphs = {folder / IMAGE_FILE: _trace(tower)}
    if wishes.attention and image.attention is not None:
        reporter.stage("tracing the attention map")
        mapped = prepare_attention(image.attention, image, tower.batch)
        graphs[folder / mapped.file] = _trace(mapped, "attention")
        sizes = image.attention
        parts.attention = AttentionSpec(mapped.file, sizes.heads, sizes.rows, sizes.columns)
    save_graphs(graphs, (folder / IMAGE_FILE).with_suffix(".data"))
    parts.image = image.spec
    _finish(tower, folder, wishes, parts, reporter)


def _export_text(
    text: TextTower,
    folder: Path,
    wishes: _Wishes,
    parts: _Parts,
    reporter: ExportProgress,
) -> None:
    """Write the text tower with its tokenizer and variants."""
    reporter.stage("computing the golden text embeddings in torch")
    write_tokenizer(text, folder)
    tokenizer = open_tokenizer(text.spec, folder)
    tower, spec = prepare_text(text, tokenizer, golden_texts(), reporter.note)
    reporter.stage("tracing the text tower")
    path = folder / tower.file
    save_graphs({path: _trace(tower)}, path.with_suffix(".data"))
    parts.text = spec
    _finish(tower, folder, wishes, parts, reporter)


def _trace(tower: ExportTower, output: str = "embedding") -> ir.Model:
    return trace(tower.face, tower.example, (tower.input_name, output), tower.dims)


def _finish(
    tower: ExportTower,
    folder: Path,
    wishes: _Wishes,
    parts: _Parts,
    reporter: ExportProgress,
) -> None:
    """Check the written tower against torch, then add its variants."""
    reporter.stage(f"comparing the {tower.name} tower with torch")
    gap = check_parity(tower.name, folder / tower.file, tower.feed, tower.reference)
    reporter.note(f"{tower.name}: ONNX Runtime agrees with torch to 1 - cosine = {gap:.1e}")
    others = [precision for precision in wishes.precisions if precision != "fp32"]
    if others:
        reporter.stage(f"making the {tower.name} tower's {' and '.join(others)}")
    made = add_variants(
        tower, folder, wishes.precisions, reporter.note, wishes.calibration, wishes.plain
    )
    parts.variants += made.found
    if made.calibration is not None:
        parts.calibration[tower.name] = made.calibration
    parts.rows[tower.name] = tower.reference


def _write_rest(description: Description, folder: Path, parts: _Parts) -> None:
    """Write the similarity file, the golden vectors and the classifier head, if there is one."""
    similarity = description.similarity
    model = build_similarity(similarity.kind, scale=similarity.scale, bias=similarity.bias)
    onnx.save(model, str(folder / SIMILARITY_FILE))
    if description.card is not None:
        parts.extensions[EXTENSION] = description.card.to_extension()
    if description.head is not None:
        parts.extensions[HEADS] = write_head(folder, description.head)
    none = np.zeros((0, _width(parts)), np.float32)
    write_golden(
        folder,
        golden_images() if "image" in parts.rows else [],
        parts.rows.get("image", none),
        golden_texts() if "text" in parts.rows else [],
        parts.rows.get("text", none),
    )


def _build_manifest(description: Description, parts: _Parts) -> Manifest:
    """Return the manifest without the fields that are set when the bundle is written."""
    similarity = description.similarity
    return Manifest(
        name=description.name,
        embedding_dim=_width(parts),
        similarity=SimilaritySpec(
            similarity.kind, similarity.scale, similarity.bias, SIMILARITY_FILE
        ),
        image=parts.image,
        text=parts.text,
        matryoshka_dims=description.matryoshka_dims,
        any_dimension=description.any_dimension,
        variants=tuple(parts.variants),
        attention=parts.attention,
        templates=description.templates,
        provenance=_describe_origin(description, parts),
        extensions=parts.extensions,
    )


def _describe_origin(description: Description, parts: _Parts) -> dict[str, Any]:
    """Return the bundle's origin: its source, the code, the calibration pictures."""
    origin = {**description.provenance, "versions": describe_versions()}
    return {**origin, "calibration": parts.calibration} if parts.calibration else origin


def _width(parts: _Parts) -> int:
    """Return the embedding's dimension, which both towers must share."""
    widths = {name: int(rows.shape[1]) for name, rows in parts.rows.items()}
    if len(set(widths.values())) != 1:
        raise InputError(
            f"the towers' embeddings differ in dimension: {widths}; both must be projected to one"
        )
    return next(iter(widths.values()))


def _move(source: Path, target: Path) -> None:
    """Move every file of `source` into `target`."""
    for path in source.iterdir():
        path.rename(target / path.name)
