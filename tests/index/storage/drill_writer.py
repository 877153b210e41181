"""Run as a program: writes to a collection until killed, printing each operation after it returned.

The n-th operation depends only on n, so that the printed operations can be replayed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twinlens.index.vectors.arrays import unit_rows

DIM = 8
SEAL_ROWS = 24
Model = dict[str, tuple[int, npt.NDArray[np.float32]]]


@dataclass(frozen=True)
class Operation:
    """One step: what to upsert, what to delete, and which maintenance to run."""

    ids: list[str]
    rows: npt.NDArray[np.float32]
    gone: list[str]
    maintenance: str


def operation(number: int) -> Operation:
    """Return the n-th operation."""
    rng = np.random.default_rng(number)
    kind = rng.choice(["upsert", "upsert", "bulk", "delete", "seal", "compact", "index"])
    count = {"upsert": int(rng.integers(1, 10)), "bulk": 40}.get(kind, 0)
    names = [f"i{n}" for n in rng.choice(150, 40, replace=False)]
    rows = rng.standard_normal((count, DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Operation(
        names[:count],
        rows,
        names[:10] if kind == "delete" else [],
        kind if kind in {"seal", "compact", "index"} else "",
    )


def apply(model: Model, number: int) -> None:
    """Apply the n-th operation to a dict."""
    step = operation(number)
    rows = unit_rows(step.rows, DIM) if step.ids else step.rows  # as stored, to the last bit
    for name, row in zip(step.ids, rows, strict=True):
        model[name] = (number, row)
    for name in step.gone:
        model.pop(name, None)


def main(folder: str, start: int) -> None:
    """Write until killed."""
    from twinlens.index import maintenance
    from twinlens.index.writer import Writer

    maintenance.MIN_ROWS = 16  # so that these few rows get an index
    writer = Writer(folder, seal_rows=SEAL_ROWS)
    writer.index_captions()
    number = start
    while True:
        step = operation(number)
        if step.ids:
            metadata = [{"n": number, "caption": f"step{number}"}] * len(step.ids)
            writer.upsert(step.ids, step.rows, metadata, [str(number)] * len(step.ids))
        if step.gone:
            writer.delete(step.gone)
        if step.maintenance == "index":
            maintenance.optimise(writer, maintenance.IndexPlan("hnsw", 0.5))
        elif step.maintenance:
            getattr(writer, step.maintenance)()
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        number += 1


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
