"""Builds a collection with Ray Data: entries are read, decoded and encoded by a pool of actors.

The driver lists the corpus, passes over what is unchanged, and is the only writer: the catalog's
transaction is the one commit point, as in a local build. A worker that dies is replaced, and its
block done again; a driver that dies is run again, and finds what it committed. What must stay true:
the plan has one kind of task, the pool's, which needs one CPU or one GPU, and the pool starts with
one actor: it cannot wait for a CPU that another stage of its own holds.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from twinlens.errors import InputError, MissingDependencyError
from twinlens.index.ingest.entries import CorpusEntry
from twinlens.index.ingest.intake import Decoded, Intake, IntakeBatch
from twinlens.index.ingest.ray_blocks import (
    BlockEncoder,
    OpenEncoder,
    PoolSize,
    choose_block,
    choose_pool,
    write_block,
)
from twinlens.index.ingest.reading import (
    ReadingPlan,
    decode_entry,
    find_versions,
    is_text,
)
from twinlens.index.ingest.versions import has_stamp, stamp_file
from twinlens.index.vectors.arrays import Floats

if TYPE_CHECKING:
    from twinlens.index.ingest.builder import BuildOptions, Embedding

WAVE_ENTRIES = 262_144  # listed at once, about 1 KB each; each wave starts a pool of its own
WAVE_BYTES = 256 << 20  # of images that only the driver can read: from zips, tars and videos
STORE_BYTES = 512 << 20  # shared memory of a cluster that is started here
START_MILLISECONDS = "120000"  # of a node's agents; Ray's own 15 s are few on a busy machine
START_TRIES = 4
LOOKED_UP = 256  # entries a query of the catalog


@dataclass(frozen=True)
class RayEngine:
    """An engine of `build` on a Ray cluster; `address` None starts one on this machine."""

    open_encoder: OpenEncoder
    address: str | None = None
    cpus: int | None = None  # of the cluster that is started here

    def __call__(
        self,
        entries: Iterator[CorpusEntry],
        reading: ReadingPlan,
        options: BuildOptions,
        intake: Intake,
    ) -> Iterator[Embedding]:
        """Yield batches in the corpus's order, each with its rows."""
        with _Cluster(self.address, self.cpus) as cluster:
            pool = cluster.size_pool()
            block = choose_block(intake.progress.total, pool.most, options.batch)
            intake.pending.commit_rows = block  # a driver that dies repeats so much less
            work = _PoolWork(pool, self.open_encoder, reading, options.batch, block)
            for wave in _list_waves(entries, reading, intake):
                for batch in _run_wave(wave, work):
                    group = intake.sort(batch)
                    yield group, _rows_of(group)


@dataclass(frozen=True)
class _PoolWork:
    """What the pool does: blocks of so many entries, encoded batch by batch."""

    pool: PoolSize
    open_encoder: OpenEncoder
    reading: ReadingPlan
    batch: int
    block: int


class _Cluster:
    """A connection to Ray; one that was started here is stopped again."""

    def __init__(self, address: str | None, cpus: int | None) -> None:
        self._ray = import_ray()
        self._is_own = not self._ray.is_initialized()
        if not self._is_own:
            return
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # its plan, beside our progress
        if address is None:
            start_ray(cpus or os.cpu_count() or 1)
        else:
            self._ray.init(address=address, log_to_driver=False, configure_logging=False)

    def __enter__(self) -> _Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_own:
            self._ray.shutdown()

    def size_pool(self) -> PoolSize:
        """Return the pool for the cluster: an actor for each GPU, or else for each CPU."""
        total, free = self._ray.cluster_resources(), self._ray.available_resources()
        return choose_pool(total, free)


def start_ray(cpus: int, store_bytes: int = STORE_BYTES) -> None:
    """Start a cluster on this machine; on a busy one Ray's patience of 30 s may need more tries."""
    ray = import_ray()
    os.environ.setdefault("RAY_agent_register_timeout_ms", START_MILLISECONDS)
    os.environ.setdefault("RAY_worker_niceness", "0")  # as a local build; Ray's own is 15
    for left in reversed(range(START_TRIES)):
        try:
            ray.init(
                num_cpus=cpus,
                object_store_memory=store_bytes,
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
            )
            return
        except Exception as error:  # Ray has no type of its own for it
            if "timed out during startup" not in str(error):
                raise
            _end_nodes(Path(ray.__file__).parent)
            if not left:
                raise InputError(
                    f"Ray did not start here in {START_TRIES} tries of 30 s: the machine is busy;"
                    " start a cluster with `ray start --head` and add --address auto",
                    field="engine",
                ) from error


def _end_nodes(package: Path) -> None:
    """End what a start that was given up has left: a second node would share its CPUs."""
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = (place / "stat").read_text().rsplit(")", 1)[1].split()[1]
            is_ours = int(parent) == os.getpid()
            if is_ours and f"{package}/".encode() in (place / "cmdline").read_bytes():
                os.kill(int(place.name), signal.SIGKILL)


def import_ray() -> Any:
    """Return Ray, with its part for data."""
    try:
        import ray
        import ray.data
    except ModuleNotFoundError:
        raise MissingDependencyError(
            "--engine ray needs Ray: pip install 'twinlens[ray]'", field="engine"
        ) from None
    return ray


@dataclass
class _Wave:
    """Entries listed at once: those decided by the driver, and those that workers read."""

    decided: dict[int, Decoded]
    shipped: dict[int, CorpusEntry]
    known: dict[int, str]
    raw: dict[int, bytes]

    @property
    def is_full(self) -> bool:
        """Whether it holds as much as one run should."""
        return (
            len(self.decided) + len(self.shipped) >= WAVE_ENTRIES
            or sum(map(len, self.raw.values())) >= WAVE_BYTES
        )


def _list_waves(
    entries: Iterator[CorpusEntry], reading: ReadingPlan, intake: Intake
) -> Iterator[_Wave]:
    """Yield the corpus wave by wave; entries are numbered in their order within one."""
    wave = _Wave({}, {}, {}, {})
    catalog = intake.pending.writer.catalog
    while group := list(itertools.islice(entries, LOOKED_UP)):
        versions = find_versions(group, catalog)
        for entry in group:
            _add(wave, entry, versions.get(entry.id, ""), reading)
        if wave.is_full:
            yield wave
            wave = _Wave({}, {}, {}, {})
    yield wave


def _add(wave: _Wave, entry: CorpusEntry, known: str, reading: ReadingPlan) -> None:
    number = len(wave.decided) + len(wave.shipped)
    can_tell = not entry.version and not reading.checksum
    if can_tell and has_stamp(known, stamp_file(entry, reading.options)):
        wave.decided[number] = Decoded(entry, known, is_unchanged=True)
        return
    if (entry.file is None and not entry.mark) or not is_text(entry.id):
        try:
            wave.raw[number] = entry.read()
        except Exception:  # read once more there, which tells the reason as a local build does
            wave.decided[number] = decode_entry(entry, known, reading)
            return
    wave.shipped[number], wave.known[number] = entry, known


def _run_wave(wave: _Wave, work: _PoolWork) -> Iterator[list[Decoded]]:
    """Yield the entries of a wave in order, in batches."""
    numbers, size = list(wave.shipped), work.block
    blocks = [
        write_block({n: wave.shipped[n] for n in numbers[at : at + size]}, wave.known, wave.raw)
        for at in range(0, len(numbers), size)
    ]
    answers = _ask_pool(blocks, work) if blocks else iter(())
    done = 0
    for answer in answers:
        found = dict(_read_answer(answer, wave))
        batch = []
        for number in range(done, max(found) + 1):
            batch.append(found[number] if number in found else wave.decided[number])
        done = max(found) + 1
        yield batch
    rest = [wave.decided[number] for number in range(done, len(wave.decided) + len(numbers))]
    for at in range(0, len(rest), 8 * size):
        yield rest[at : at + 8 * size]


def _ask_pool(blocks: list[Any], work: _PoolWork) -> Iterator[Any]:
    """Yield a table for each block, in their order."""
    ray = import_ray()
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    table, pool, reading = ray.data.from_arrow(blocks), work.pool, work.reading
    answered = table.map_batches(
        BlockEncoder,
        batch_size=None,
        batch_format="pyarrow",
        fn_constructor_args=(
            *(work.open_encoder, pool.threads),
            *(reading.describe, reading.options, reading.checksum, work.batch),
        ),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(pool.most, len(blocks))),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
    )
    yield from answered.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)


def _read_answer(answer: Any, wave: _Wave) -> Iterator[tuple[int, Decoded]]:
    for row in answer.to_pylist():
        told, entry = orjson.loads(row["told"]), wave.shipped[row["number"]]
        entry = CorpusEntry(
            entry.id, entry.read, told.pop("metadata"), entry.covers, entry.file, entry.version
        )
        vector = np.frombuffer(row["row"], np.float32) if row["row"] else None
        yield row["number"], Decoded(entry, row=vector, **told)


def _rows_of(group: IntakeBatch) -> Future[Floats]:
    """Return the rows of a batch, which have come already."""
    rows = [one.row for one in group.fresh if one.row is not None]
    done: Future[Floats] = Future()
    done.set_result(np.stack(rows) if rows else np.empty((0, 0), np.float32))
    return done
