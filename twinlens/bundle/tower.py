"""A tower of an opened bundle: unit rows for pixels or for tokens, in batches.

The batch size depends on the tower and the device: it is measured once per machine, when a batch of
more than a few items is first requested. What must stay true: a row does not depend on its batch:
to 1e-5, or in bf16 to that precision's tolerance. Thread-safe.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.arrays import Pixels, Rows
from twinlens.bundle.engine import openvino_session
from twinlens.bundle.engine.batch_curve import BatchCurve, measure_curve
from twinlens.bundle.engine.lanes import SIZES, pad_size
from twinlens.bundle.engine.onnxruntime_session import describe_device, read_version
from twinlens.bundle.engine.record import Subject, read_curve, write_curve
from twinlens.bundle.manifest import Manifest
from twinlens.bundle.processors import count_physical_cores
from twinlens.bundle.session import Graph, Runtime
from twinlens.bundle.text.token_batches import pad_rows
from twinlens.version import __version__

TowerName = Literal["image", "text"]

_FEW = 32  # items per batch before the measurement
_MEASURED_LENGTH = 16  # tokens of a text while batches are measured: a caption's
_LENGTH_STEP = 8  # lengths that texts are padded to if each shape is prepared once
_UNDISTURBED = 0.8  # CPU seconds per second, for a measurement to be kept
_TELLING = 0.2  # seconds: in less, a measurement cannot detect other work on the machine
_INPUTS = {"image": "pixels", "text": "tokens"}


class BatchSize:
    """The largest batch that is worth waiting for; measured on first use, and remembered."""

    def __init__(self, subject: Subject, run: Callable[[int], object]) -> None:
        self._subject = subject
        self._run = run
        self._lock = threading.Lock()
        self._curve: BatchCurve | None = None
        self._knee = 0  # not known yet

    def measure(self) -> BatchCurve:
        """Return the times of batches here."""
        with self._lock:
            if self._curve is None:
                self._curve = read_curve(self._subject)
            if self._curve is None:
                on_cpu = self._subject.device == "cpu"
                began, spent = time.perf_counter(), time.process_time()
                self._curve = measure_curve(self._run, cost=time.process_time if on_cpu else None)
                took, used = time.perf_counter() - began, time.process_time() - spent
                if not on_cpu or took < _TELLING or used >= _UNDISTURBED * took:
                    write_curve(self._subject, self._curve)
            return self._curve

    def choose(self, count: int) -> int:
        """Return how many of `count` items go into a batch; a few items are not worth measuring."""
        if not self._knee:
            if count <= _FEW:
                return _FEW
            self._knee = self.measure().knee
        return self._knee


class Tower(Protocol):
    """Rows for items of one kind."""

    graph: Graph
    precision: str
    batches: BatchSize

    def encode(self, items: Any) -> Rows:
        """Return one row per item, in order, in batches of the best size here."""
        ...

    def encode_batch(self, items: Any) -> Rows:
        """Return one row per item, in order, as one batch."""
        ...

    def warm_up(self) -> None:
        """Run the sizes of later batches, so that none waits for memory, kernels or graphs."""
        ...


class PixelGraph:
    """Rows for pixels."""

    def __init__(self, graph: Graph, manifest: Manifest, precision: str, subject: Subject) -> None:
        assert manifest.image is not None
        self.graph = graph
        self.precision = precision
        self._dim = manifest.embedding_dim
        self._shape = (manifest.image.height, manifest.image.width, 3)
        self.batches = BatchSize(subject, self._run_blank)

    def encode(self, items: Pixels | Sequence[Pixels]) -> Rows:
        """Return the embeddings (n, d) of preprocessed pixels, an array or one for each item."""
        size = self.batches.choose(len(items))
        if 0 < len(items) <= size:
            return self.encode_batch(items)
        batches = [items[i : i + size] for i in range(0, len(items), size)]
        rows = _run_batches(self.graph, self.encode_batch, batches)
        return np.concatenate(rows) if rows else np.zeros((0, self._dim), np.float32)

    def encode_batch(self, items: Pixels | Sequence[Pixels]) -> Rows:
        """Return the embeddings (n, d) of one batch."""
        return self.graph.embed("pixels", items)

    def warm_up(self) -> None:
        """Run every batch size that is prepared here, or one if none is."""
        _warm_up(self.graph, self.batches, self._run_blank)

    def _run_blank(self, count: int) -> Rows:
        """Run a batch of identical images; their content does not affect the time."""
        item = np.random.default_rng(0).integers(0, 256, self._shape, dtype=np.uint8)
        return self.encode_batch(np.broadcast_to(item, (count, *self._shape)))


class TokenGraph:
    """Rows for tokenized texts; those of similar length share a batch."""

    def __init__(self, graph: Graph, manifest: Manifest, precision: str, subject: Subject) -> None:
        assert manifest.text is not None
        self.graph = graph
        self.precision = precision
        self._dim = manifest.embedding_dim
        self._spec = manifest.text
        self.batches = BatchSize(subject, self._run_blank)

    def encode(self, items: Sequence[Sequence[int]]) -> Rows:
        """Return the embeddings (n, d) of token lists without padding."""
        rows = np.empty((len(items), self._dim), np.float32)
        order = sorted(range(len(items)), key=lambda i: len(items[i]))
        size = self.batches.choose(len(items))
        chosen = [order[start : start + size] for start in range(0, len(order), size)]
        batches = [[items[i] for i in part] for part in chosen]
        for part, found in zip(
            chosen, _run_batches(self.graph, self.encode_batch, batches), strict=True
        ):
            rows[part] = found
        return rows

    def encode_batch(self, items: Sequence[Sequence[int]]) -> Rows:
        """Return the embeddings (n, d) of one batch."""
        return self.graph.embed("tokens", self._pad(items))

    def _pad(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        """Return the token lists as one array, padded as this text tower requires."""
        context = self._spec.context_length
        longest = max(map(len, tokens))
        if self.graph.captures:
            longest = min(context, -(-longest // _LENGTH_STEP) * _LENGTH_STEP)
        length = longest if self._spec.cut_to_longest else context
        return pad_rows(tokens, self._spec.pad_id, length)

    def warm_up(self) -> None:
        """Run every batch size that is prepared here, or one if none is."""
        _warm_up(self.graph, self.batches, self._run_blank)

    def _run_blank(self, count: int) -> Rows:
        """Run a batch of identical texts, as long as a caption."""
        length = min(_MEASURED_LENGTH, self._spec.context_length)
        return self.encode_batch([[self._spec.pad_id] * length] * count)


def _run_batches(graph: Graph, run: Callable[[Any], Rows], batches: Sequence[Any]) -> list[Rows]:
    """Return each batch's rows, in order, with as many in flight as the devices process at once."""
    if graph.in_flight == 1 or len(batches) < 2:
        return [run(batch) for batch in batches]
    with ThreadPoolExecutor(graph.in_flight, "batch") as pool:
        return list(pool.map(run, batches))


def _warm_up(graph: Graph, batches: BatchSize, run: Callable[[int], object]) -> None:
    """Measure, then run each size on each lane of each device; they take turns."""
    knee = batches.measure().knee
    sizes = [size for size in SIZES if size <= pad_size(knee)] if graph.captures else [1]
    for size in sizes:
        for _ in range(graph.in_flight):
            run(size)


@dataclass(frozen=True)
class TowerFile:
    """The graph file of a tower at one precision, not opened yet.

    `in_bf16` marks the fp32 graph that an engine computes in bfloat16.
    """

    folder: Path
    manifest: Manifest
    tower: TowerName
    file: str
    precision: str
    in_bf16: bool = False

    def open(self, runtime: Runtime) -> Tower:
        """Open the tower; raise if its graph does not have the dimensions of the manifest."""
        name = _INPUTS[self.tower]
        graph = Graph(
            self.folder / self.file,
            runtime,
            inputs=(name,),
            output="embedding",
            in_bf16=self.in_bf16,
            in_batches=True,
        )
        graph.check_dim("embedding", 1, self.manifest.embedding_dim)
        subject = self.describe(runtime, graph.engine)
        if self.tower == "text":
            return TokenGraph(graph, self.manifest, self.precision, subject)
        assert self.manifest.image is not None
        graph.check_dim("pixels", 1, self.manifest.image.height)
        graph.check_dim("pixels", 2, self.manifest.image.width)
        return PixelGraph(graph, self.manifest, self.precision, subject)

    def describe(self, runtime: Runtime, engine: str = "") -> Subject:
        """Return the key for measurements of this tower."""
        device = "cpu" if engine == "openvino" else describe_device(runtime.devices[0])
        return Subject(
            revision=self.manifest.revision,
            tower=self.tower,
            precision=self.precision,
            threads=runtime.threads or count_physical_cores(),
            versions=(__version__, read_version(), openvino_session.read_version()),
            device=device,
            engine=engine,
        )


def find_tower_file(
    folder: Path, manifest: Manifest, tower: TowerName, precision: str
) -> TowerFile:
    """Return a tower at `precision`, or at its reference if the bundle has no such variant.

    bf16 needs no file of its own: without one the fp32 graph is computed in bf16.
    """
    files = manifest.list_graphs(tower)
    reference = next(iter(files))
    if precision in files:
        return TowerFile(folder, manifest, tower, files[precision], precision)
    stored = any(v.precision == precision for v in manifest.variants)
    if precision == "bf16" and reference == "fp32" and not stored:
        return TowerFile(folder, manifest, tower, files[reference], "bf16", in_bf16=True)
    return TowerFile(folder, manifest, tower, files[reference], reference)
