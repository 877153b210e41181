"""A tower of an opened bundle: unit rows for pixels or for tokens, in batches.

What must stay true: a row does not depend on its batch: to 1e-5, or in bf16 to that precision's
tolerance. Thread-safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.arrays import Rows
from twinlens.bundle.manifest import Manifest
from twinlens.bundle.session import Graph, Runtime
from twinlens.bundle.text.token_batches import pad_rows

TowerName = Literal["image", "text"]

IMAGE_BATCH = 8  # larger batches are not faster on a CPU and add latency
TEXT_BATCH = 32
_INPUTS = {"image": "pixels", "text": "tokens"}


class Tower(Protocol):
    """Rows for items of one kind."""

    graph: Graph
    precision: str

    def encode(self, items: Any) -> Rows:
        """Return one row per item, in order."""
        ...


class PixelGraph:
    """Rows for pixels."""

    def __init__(self, graph: Graph, manifest: Manifest, precision: str) -> None:
        self.graph = graph
        self.precision = precision
        self._dim = manifest.embedding_dim

    def encode(self, items: NDArray[np.uint8]) -> Rows:
        """Return the embeddings (n, d) of preprocessed pixels (n, height, width, 3)."""
        batches = [items[i : i + IMAGE_BATCH] for i in range(0, len(items), IMAGE_BATCH)]
        rows = [_embed(self.graph, {"pixels": batch}) for batch in batches]
        return np.concatenate(rows) if rows else np.zeros((0, self._dim), np.float32)


class TokenGraph:
    """Rows for tokenized texts; those of similar length share a batch."""

    def __init__(self, graph: Graph, manifest: Manifest, precision: str) -> None:
        assert manifest.text is not None
        self.graph = graph
        self.precision = precision
        self._dim = manifest.embedding_dim
        self._spec = manifest.text

    def encode(self, items: Sequence[Sequence[int]]) -> Rows:
        """Return the embeddings (n, d) of token lists without padding."""
        rows = np.empty((len(items), self._dim), np.float32)
        order = sorted(range(len(items)), key=lambda i: len(items[i]))
        for start in range(0, len(order), TEXT_BATCH):
            chosen = order[start : start + TEXT_BATCH]
            batch = self._pad([items[i] for i in chosen])
            rows[chosen] = _embed(self.graph, {"tokens": batch})
        return rows

    def _pad(self, tokens: list[Sequence[int]]) -> NDArray[np.int64]:
        """Return the token lists as one array, padded as this text tower requires."""
        longest = max(map(len, tokens))
        length = longest if self._spec.cut_to_longest else self._spec.context_length
        return pad_rows(tokens, self._spec.pad_id, length)


def _embed(graph: Graph, feeds: dict[str, NDArray[Any]]) -> Rows:
    """Return the unit rows of one batch."""
    rows: Rows = graph.run(["embedding"], feeds)[0]
    if graph.engine == "openvino":  # adds an epsilon to each length that it divides by
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return rows


@dataclass(frozen=True)
class TowerFile:
    """The graph file that holds a tower at one precision, not opened yet.

    `in_bf16` marks the fp32 graph that an engine is asked to compute in bfloat16.
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
        path = self.folder / self.file
        graph = Graph(path, runtime, inputs=(name,), output="embedding", in_bf16=self.in_bf16)
        graph.check_dim("embedding", 1, self.manifest.embedding_dim)
        if self.tower == "text":
            return TokenGraph(graph, self.manifest, self.precision)
        assert self.manifest.image is not None
        graph.check_dim("pixels", 1, self.manifest.image.height)
        graph.check_dim("pixels", 2, self.manifest.image.width)
        return PixelGraph(graph, self.manifest, self.precision)


def find_tower_file(
    folder: Path, manifest: Manifest, tower: TowerName, precision: str
) -> TowerFile:
    """Return a tower at `precision`, or at its reference if the bundle has no such variant.

    bf16 needs no file of its own: without one it is the fp32 graph, computed in bf16.
    """
    files = manifest.list_graphs(tower)
    reference = next(iter(files))
    if precision in files:
        return TowerFile(folder, manifest, tower, files[precision], precision)
    stored = any(v.precision == precision for v in manifest.variants)
    if precision == "bf16" and reference == "fp32" and not stored:
        return TowerFile(folder, manifest, tower, files[reference], "bf16", in_bf16=True)
    return TowerFile(folder, manifest, tower, files[reference], reference)
