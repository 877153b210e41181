"""Measurements of fitted towers: cosines to the original file's rows, and speed.

What must stay true: a tower runs as in an encoder, with the bundle's own pixels and tokens.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from twinlens.bundle.arrays import Rows
from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.bundle.manifest import ImageSpec, TextSpec
from twinlens.bundle.pull.plain_path import Feeds
from twinlens.bundle.text.token_batches import longest, pad_rows
from twinlens.bundle.text.tokenizer import open_tokenizer
from twinlens.errors import BundleError

_SECONDS: Final = 2.0  # CPU seconds for one ratio of speeds
_ROUNDS: Final = 7


def open_fitted(path: Path, threads: int = 0) -> Any:
    """Open a fitted graph on the CPU; `threads` 0 means one thread per core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )  # fmt: skip
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        reason = str(error).strip().splitlines()[0][:300]
        raise BundleError(f"{path.name} does not load once it is fitted: {reason}") from None


def feed_images(spec: ImageSpec, images: Sequence[bytes]) -> Feeds:
    """Return the pixels of the pictures as one batch."""
    preprocess = Preprocessor(spec)
    return {"pixels": np.stack([preprocess(image) for image in images])}


def feed_texts(spec: TextSpec, folder: Path, texts: Sequence[str], *, cut: bool) -> Feeds:
    """Return the tokens of the texts as one batch."""
    rows = open_tokenizer(spec, folder).encode(texts)
    return {"tokens": pad_rows(rows, spec.pad_id, longest(rows) if cut else spec.context_length)}


def embed(session: Any, feeds: Feeds) -> Rows:
    """Return the embeddings of a batch."""
    rows: Rows = session.run(["embedding"], feeds)[0]
    return rows


def find_cosine(rows: Rows, reference: Rows) -> float:
    """Return the smallest cosine between rows; NaN where the shapes differ."""
    if rows.shape != reference.shape:
        return float("nan")
    ours, theirs = rows.astype(np.float64), reference.astype(np.float64)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(axis=1) / lengths).min())


def find_speed(plain: Path, variant: Path, feeds: Feeds) -> float:
    """Return the speed of `variant` as a ratio to `plain`.

    One thread, CPU time, alternating: other work on the machine cancels out.
    """
    sessions = [open_fitted(path, threads=1) for path in (plain, variant)]
    best = [float("inf"), float("inf")]
    begun = time.process_time()
    for _ in range(_ROUNDS):
        for i, session in enumerate(sessions):
            started = time.process_time()
            embed(session, feeds)
            best[i] = min(best[i], time.process_time() - started)
        if time.process_time() - begun > _SECONDS:
            break
    return best[0] / best[1]
