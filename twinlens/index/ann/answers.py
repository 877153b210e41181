"""The true answers on which a recall was measured, stored with the index.

They bound the effect of deletions. A live answer is found as before; a deleted one is replaced by a
row that was not measured. So if a share q of the answers is deleted, the recall changes by at most
q. Above `STALE_SHARE` the recall is stale.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from twinlens.index.ann.recall import Sample
from twinlens.index.storage.durable import FileRecord
from twinlens.index.vectors.arrays import Mask, RowNumbers, load_arrays

ANSWERS_NAME = "answers.npz"
STALE_SHARE = 0.05
UNKNOWN_WEIGHT = 5  # without stored answers, each dead row counts this many times

TrueAnswers = Mapping[str, RowNumbers]  # rows (n, TUNED_K) by modality; -1 where there were fewer


def save_answers(folder: Path, samples: Mapping[str, Sample]) -> None:
    """Write the answers of the queries that the reported recall was measured on."""
    np.savez(
        folder / ANSWERS_NAME,
        allow_pickle=False,
        **{name: one.half(1).truth.astype(np.int32) for name, one in samples.items()},
    )


def load_answers(folder: Path, files: Mapping[str, FileRecord]) -> TrueAnswers | None:
    """Return the answers, or None if they were not stored or are damaged."""
    record = files.get(ANSWERS_NAME)
    try:
        raw = b"" if record is None else (folder / ANSWERS_NAME).read_bytes()
    except OSError:
        return None
    if record is None or hashlib.sha256(raw).hexdigest() != record.sha256:
        return None
    return load_arrays(io.BytesIO(raw))


def lost_shares(answers: TrueAnswers | None, live: Mask, modalities: list[str]) -> dict[str, float]:
    """Return the share of measured answers that are deleted, by modality."""
    if answers is None:
        dead = UNKNOWN_WEIGHT * float(np.mean(~live))
        return dict.fromkeys(modalities, min(1.0, dead))
    lost = {}
    for name in modalities:
        rows = answers[name][answers[name] >= 0] if name in answers else np.empty(0, np.int64)
        lost[name] = float(np.mean(~live[rows])) if len(rows) else 0.0
    return lost
