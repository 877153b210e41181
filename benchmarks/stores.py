"""The same rows and texts in a folder, in PostgreSQL and in Milvus: recall, CPU and time per query.

    python benchmarks/stores.py [--rows N] [--quick] [--json FILE]

Rows and texts are synthetic. Each place is filled, its index built and tuned to 0.95 by its own
means, then searched with the same unseen texts alternately. CPU counts this process, which includes
milvus-lite, and the server process of PostgreSQL. Stores that are not installed are left out with a
message.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from report import Report
from worlds.embeddings import Rows, make_world

from twinlens.index.collection import Collection
from twinlens.index.maintenance import IndexPlan, optimise, store_sample
from twinlens.index.stats import measured_recall
from twinlens.index.stores.migration import copy_items
from twinlens.index.stores.opening import open_store, parse_address
from twinlens.index.stores.store_collection import StoreCollection
from twinlens.index.stores.store_tuning import tune_store
from twinlens.index.stores.store_writer import StoreWriter
from twinlens.index.vectors.exact import top_k
from twinlens.index.writer import Writer, create_collection

K, TARGET, DIM = 10, 0.95, 256


@dataclass
class Place:
    """A filled place: its collection, the CPU seconds of filling it, its server's process."""

    name: str
    collection: Collection
    filled: float
    server: Callable[[], int | None]

    def spent(self) -> float:
        """Return the CPU seconds of this process and of the server."""
        process = self.server()
        if process is None:
            return time.process_time()
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        ticks = sum(map(int, fields[11:13]))
        return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--quick", action="store_true", help="5,000 rows")
    parser.add_argument("--json", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    count = 5000 if chosen.quick else chosen.rows
    report = Report("stores", chosen.json)
    with tempfile.TemporaryDirectory() as folder:
        compare(report, Path(folder), count)
    report.finish(chosen.json)


def compare(report: Report, folder: Path, count: int) -> None:
    """Fill every installed place, then search them alternately."""
    world = make_world(count, 600, dim=DIM)
    images, texts = world.images, world.text_queries
    with fill_folder(folder / "local", images, texts[:400]) as writer:
        places = [Place("folder, ivf-sq8", writer.collection, 0.0, lambda: None)]
        for name, needs in (("postgresql", ("pgserver", "psycopg")), ("milvus", ("milvus_lite",))):
            if any(importlib.util.find_spec(one) is None for one in needs):
                report.row(place=f"{name}: not installed")
                continue
            uri = start_postgres(folder) if name == "postgresql" else f"milvus://{folder}/m.db"
            places.append(fill_store(name, uri, writer.collection, texts[:400], folder))
        ask(report, places, images, texts[400:])
        for place in places[1:]:
            place.collection.close()


def fill_folder(folder: Path, images: Rows, texts: Rows) -> Writer:
    """Return the writer of a local collection with its index."""
    create_collection(folder, dim=images.shape[1], bundle_name="made up", bundle_revision="r")
    writer = Writer(folder)
    numbers = range(len(images))
    writer.upsert([f"i{n}" for n in numbers], images, [{"n": n} for n in numbers])
    store_sample(writer, "text", texts, "made up")
    optimise(writer, IndexPlan("ivf-sq8", TARGET))
    return writer


def start_postgres(folder: Path) -> str:
    """Return the address of a server of its own."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    import pgserver

    address: str = pgserver.get_server(folder / "pg").get_uri()
    return address


def fill_store(name: str, uri: str, source: Collection, texts: Rows, folder: Path) -> Place:
    """Copy the collection into a store, and tune its index."""
    address = parse_address(uri)
    if address is None:
        raise RuntimeError(f"{uri} is no address")
    store = open_store(address, source.head)
    collection = StoreCollection(store, folder)
    select: Any = getattr(store, "_select", None)

    def find_server() -> int | None:
        return None if select is None else int(select("SELECT pg_backend_pid()")[0][0])

    start = Place(name, collection, 0.0, find_server)
    before = start.spent()
    copy_items(source, StoreWriter(collection))
    tune_store(collection, texts, TARGET)
    return Place(name, collection, start.spent() - before, find_server)


def ask(report: Report, places: list[Place], images: Rows, texts: Rows) -> None:
    """Search each place with the same texts, alternately."""
    truth = [{f"i{n}" for n in row} for row in top_k(texts, images, K)[1].tolist()]
    shares: dict[str, list[float]] = {place.name: [] for place in places}
    cpu: dict[str, list[float]] = {place.name: [] for place in places}
    wall: dict[str, list[float]] = {place.name: [] for place in places}
    for text, wanted in zip(texts, truth, strict=True):
        for place in places:
            before, start = place.spent(), time.perf_counter()
            hits = place.collection.search(text, K)[0]
            wall[place.name].append(1000 * (time.perf_counter() - start))
            cpu[place.name].append(1000 * (place.spent() - before))
            shares[place.name].append(len(wanted & {hit.id for hit in hits}) / K)
    for place in places:
        told = measured_recall(place.collection.snapshot())["text"]
        report.row(
            place=place.name,
            recall=float(np.mean(shares[place.name])),
            told=told,
            cpu_ms=float(np.mean(cpu[place.name])),
            wall_p50_ms=statistics.median(wall[place.name]),
            filled_cpu_s=place.filled,
        )
        if told is not None:
            gap = abs(told - float(np.mean(shares[place.name])))
            report.bar(f"{place.name} tells its recall within 0.03", gap, 0.03, gap <= 0.03)


if __name__ == "__main__":
    main()
