"""Search on a GPU against the same collection on the CPU: speed, and equality of the answers.

    python benchmarks/search_gpu.py [--quick] [--dry-run] [--json FILE]

Needs faiss-gpu and a device. `--dry-run` checks the script on a small world without one; its
numbers mean nothing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from report import Report
from searching.stage import Stage, fill, measure_recall, searcher, true_answers
from worlds.embeddings import Rows, make_world

from twinlens.index.ann.candidates import Candidates
from twinlens.index.collection import Collection
from twinlens.index.maintenance import IndexPlan, optimise
from twinlens.index.vectors import gpu

BATCHES = (1, 16, 64, 256)
ROUNDS = 20


def main() -> None:
    """Build once with the device, then search with it and with the CPU alternately."""
    arguments = _parse()
    report = Report("search_gpu")
    count = 4_000 if arguments.dry_run else 200_000 if arguments.quick else 1_000_000
    device = gpu.find_device()
    if device is None and not arguments.dry_run:
        raise SystemExit("FAISS sees no GPU here; --dry-run checks the script alone")
    report.row(what="device: seen" if device else "device: none (dry run)")
    with tempfile.TemporaryDirectory() as place:
        stage = fill(report, make_world(count, 600), Path(place))
        with stage.writer:
            start = time.perf_counter()
            optimise(stage.writer, IndexPlan("ivf-sq8"))
            report.row(what="build and tune (wall)", s=time.perf_counter() - start, rows=count)
            _compare(report, stage)
    report.finish(arguments.json)


def _compare(report: Report, stage: Stage) -> None:
    """Open the collection twice: one reader may use the device, the other never does."""
    folder = stage.writer.folder
    with Collection(folder) as on_device, Collection(folder) as on_cpu:
        _forbid_device(on_cpu)
        for reader in (on_device, on_cpu):
            reader.warm()
        for exact in (True, False):
            for batch in BATCHES:
                texts = stage.texts[:batch]
                ms = {
                    name: _time(reader, texts, exact)
                    for name, reader in (("gpu", on_device), ("cpu", on_cpu))
                }
                what = f"{'exact' if exact else 'ivf-sq8'}, batch {batch}"
                report.row(what=what, ratio=ms["cpu"] / ms["gpu"], **ms)
        recalls = {
            name: measure_recall(map(searcher(reader), stage.texts), stage.truth)
            for name, reader in (("gpu", on_device), ("cpu", on_cpu))
        }
        report.row(what="recall of texts", **recalls)
        off = abs(recalls["gpu"] - recalls["cpu"])
        report.bar("recall_gpu_off_cpu_by", off, 0.005, off <= 0.005)
        found = [true_answers(reader, stage.texts[:64]) for reader in (on_device, on_cpu)]
        same = measure_recall(*found)
        report.bar("exact_answers_shared", same, 0.999, same >= 0.999)


def _time(reader: Collection, texts: Rows, exact: bool) -> float:
    """Return the median wall milliseconds of one query of a batch."""
    spent = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        reader.search(texts, 10, exact=exact)
        spent.append(time.perf_counter() - start)
    return 1000 * float(np.median(spent)) / len(texts)


def _forbid_device(reader: Collection) -> None:
    """Make a reader behave as on a machine without GPU."""
    for part in reader.snapshot().parts:
        part.segment._device_asked = True
        index = part.ann_index.open() if part.ann_index else None
        if isinstance(index, Candidates):
            index.__dict__["_copy"] = None  # the cached property's value there


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="200k rows instead of a million")
    parser.add_argument("--dry-run", action="store_true", help="check the script without a device")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and bars here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
