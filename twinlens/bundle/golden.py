"""Golden vectors: inputs stored in the bundle with the embeddings that torch computed.

Replaying them verifies the complete path on the machine that will serve: decoding, preprocessing,
tokenizer, graph and runtime. What must stay true: the file holds plain arrays only and is read
without pickle.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.manifest import Manifest
from twinlens.errors import BundleError

GOLDEN_NAME = "golden.npz"
FP32_TOLERANCE = 1e-4  # 1 - cosine to torch: rounding differs by less, damaged weights by more
BF16_TOLERANCE = 1e-3  # for fp32 weights computed in bf16; five times the gap of random weights
_VARIANT_MARGIN = 2e-3  # below the export's measured cosine of a reduced precision
_SCORE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Golden:
    """The golden inputs with their expected embeddings; empty for an absent tower."""

    images: list[bytes]
    image_embeddings: NDArray[np.float32]
    texts: list[str]
    text_embeddings: NDArray[np.float32]


@dataclass(frozen=True)
class Replay:
    """The result of a replay: the smallest cosine to the expected embeddings, per tower."""

    image_cosine: float | None
    text_cosine: float | None
    count: int


class Replayable(Protocol):
    """The parts of an encoder that a replay uses."""

    @property
    def folder(self) -> Path:
        """Return the folder of the bundle."""
        ...

    @property
    def manifest(self) -> Manifest:
        """Return the bundle's manifest."""
        ...

    @property
    def precisions(self) -> Mapping[str, str]:
        """Return the precision of each tower."""
        ...

    def embed_images(self, images: Sequence[bytes]) -> NDArray[np.float32]:
        """Return unit rows for encoded images."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit rows for texts."""
        ...

    def classify(
        self, embeddings: NDArray[np.float32], bank: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scores and cosines by the similarity node."""
        ...


def write_golden(
    folder: Path,
    images: list[bytes],
    image_embeddings: NDArray[np.float32],
    texts: list[str],
    text_embeddings: NDArray[np.float32],
) -> None:
    """Write `golden.npz` into `folder`; lists and embeddings of an absent tower are empty."""
    image_data, image_ends = _pack(images)
    text_data, text_ends = _pack([text.encode() for text in texts])
    np.savez_compressed(
        folder / GOLDEN_NAME,
        image_data=image_data,
        image_ends=image_ends,
        image_embeddings=np.asarray(image_embeddings, np.float32),
        text_data=text_data,
        text_ends=text_ends,
        text_embeddings=np.asarray(text_embeddings, np.float32),
    )


def read_golden(folder: Path) -> Golden:
    """Return the golden vectors of the bundle in `folder`."""
    path = folder / GOLDEN_NAME
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Golden(
                images=_unpack(arrays["image_data"], arrays["image_ends"]),
                image_embeddings=arrays["image_embeddings"],
                texts=[t.decode() for t in _unpack(arrays["text_data"], arrays["text_ends"])],
                text_embeddings=arrays["text_embeddings"],
            )
    except FileNotFoundError:
        raise BundleError(
            f"{folder}: file {GOLDEN_NAME!r} is missing; export the bundle again"
        ) from None
    except (ValueError, KeyError, zipfile.BadZipFile, OSError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from None


def replay_golden(encoder: Replayable) -> Replay:
    """Run the golden inputs through `encoder`; return the cosines, raise if one is too low."""
    golden = read_golden(encoder.folder)
    image_cosine = text_cosine = None
    if golden.images:
        found = encoder.embed_images(golden.images)
        image_cosine = _compare(encoder, "image", found, golden.image_embeddings)
    if golden.texts:
        found = encoder.embed_texts(golden.texts)
        text_cosine = _compare(encoder, "text", found, golden.text_embeddings)
    _check_similarity(encoder, golden)
    return Replay(image_cosine, text_cosine, len(golden.images) + len(golden.texts))


def _compare(
    encoder: Replayable, tower: str, found: NDArray[np.float32], expected: NDArray[np.float32]
) -> float:
    """Return the smallest cosine between rows; raise if it is too low for the precision."""
    if found.shape != expected.shape:
        raise BundleError(
            f"{encoder.folder}: golden {tower} embeddings have shape {expected.shape}, "
            f"the {tower} tower returns {found.shape}"
        )
    cosine = float((found.astype(np.float64) * expected).sum(axis=1).min())
    floor = find_floor(encoder.manifest, tower, encoder.precisions[tower])
    if not cosine >= floor:  # NaN fails too
        raise BundleError(
            f"{encoder.folder}: golden mismatch in the {tower} tower: cosine {cosine:.6f} to "
            "the exported "
            f"model, at least {floor:.6f} is needed; export the bundle again"
        )
    return cosine


def find_floor(manifest: Manifest, tower: str, precision: str) -> float:
    """Return the smallest cosine allowed for a tower at a precision."""
    if precision == "fp32":
        return 1.0 - FP32_TOLERANCE
    measured = (
        v.cosine for v in manifest.variants if v.tower == tower and v.precision == precision
    )
    cosine = next(measured, None)
    return 1.0 - BF16_TOLERANCE if cosine is None else cosine - _VARIANT_MARGIN


def _check_similarity(encoder: Replayable, golden: Golden) -> None:
    """Check the similarity node against its definition in float64, on golden embeddings."""
    rows = golden.image_embeddings if golden.images else golden.text_embeddings
    bank = golden.text_embeddings if golden.texts else golden.image_embeddings
    scores, _ = encoder.classify(rows, bank)
    spec = encoder.manifest.similarity
    logits = spec.scale * rows.astype(np.float64) @ bank.T.astype(np.float64)
    if spec.kind == "softmax":
        logits -= logits.max(axis=1, keepdims=True)
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    else:
        expected = 1.0 / (1.0 + np.exp(-(logits + spec.bias)))
    difference = float(np.abs(scores - expected).max())
    if not difference <= _SCORE_TOLERANCE:
        raise BundleError(
            f"{encoder.folder}: the similarity node differs from its definition by "
            f"{difference:.2e}; "
            f"scale {spec.scale} and bias {spec.bias} in the manifest must be those in "
            f"{spec.file!r}"
        )


def _pack(parts: list[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the concatenated parts, and the end of each."""
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    return np.frombuffer(b"".join(parts), np.uint8), ends


def _unpack(joined: NDArray[np.uint8], ends: NDArray[np.int64]) -> list[bytes]:
    """Return the parts that `_pack` joined."""
    starts = [0, *ends[:-1].tolist()] if len(ends) else []
    return [joined[a:b].tobytes() for a, b in zip(starts, ends.tolist(), strict=True)]
