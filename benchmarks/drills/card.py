"""`python benchmarks/drills/card.py PORT WORKERS BATCH`: a server with a simulated GPU.

The simulated GPU waits as long as a real one takes for a batch and computes nothing, so that
everything else that a server does is measured. Decoding is real.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.arrays import Pixels, Rows
from twinlens.bundle.class_head import ClassHead
from twinlens.bundle.encoder import find_bundle
from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.bundle.manifest import Manifest
from twinlens.bundle.store import verify_bundle
from twinlens.bundle.tower import TowerName
from twinlens.serving.launch import ListenAddress, ServedBundle, bind_port, run_server
from twinlens.serving.observe.logs import configure_logs
from twinlens.serving.service import Service
from twinlens.serving.settings import Batching, ServerSettings
from twinlens.serving.workers.family_launch import FamilyPlan, run_family

SIDE, WIDTH = 224, 512
_AT_8, _AT_64 = 0.0018, 0.0039  # seconds: ViT-B-32 in fp16 on an H200
_MOST = 512


def card_seconds(items: int) -> float:
    """Return how long the GPU takes for a batch: measured at 8 and 64, linear between."""
    return _AT_8 + max(0, items - 8) * (_AT_64 - _AT_8) / 56


def build_manifest() -> Manifest:
    """Return the manifest of an image tower that takes 224 x 224 pixels."""
    manifest = verify_bundle(find_bundle("builtin"), hashes=False)
    assert manifest.image is not None
    image = replace(manifest.image, height=SIDE, width=SIDE, resize_to=SIDE)
    return replace(manifest, image=image, text=None, embedding_dim=WIDTH, revision="0" * 64)


class StandIn:
    """Waits as a GPU would."""

    provider = "StandIn"
    engines: Mapping[str, str] = MappingProxyType({"image": "stand-in"})
    class_heads: Sequence[ClassHead] = ()
    revision = "0" * 64
    embedding_dim = WIDTH

    def __init__(self, batch: int = 64) -> None:
        self.manifest = build_manifest()
        self._batch = batch
        assert self.manifest.image is not None
        self.preprocess = Preprocessor(self.manifest.image)
        rows = np.random.default_rng(0).normal(size=(_MOST, WIDTH)).astype(np.float32)
        self._rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def batch_size(self, tower: TowerName) -> int:
        """Return the batch size at which the GPU's rate is near its best."""
        return self._batch

    def in_flight(self, tower: TowerName) -> int:
        """Return how many batches run at once."""
        return 1

    def encode_pixels(self, pixels: Pixels | Sequence[Pixels]) -> Rows:
        """Return rows, after the time that a GPU takes."""
        time.sleep(card_seconds(len(pixels)))
        rows: Rows = self._rows[: len(pixels)].copy()
        return rows

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Fail: there is no text tower."""
        raise NotImplementedError

    def encode_tokens(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Fail: there is no text tower."""
        raise NotImplementedError

    def classify(self, embeddings: Any, bank: Any) -> Any:
        """Fail: nothing is classified here."""
        raise NotImplementedError

    def attention(self, pixels: Any) -> Any:
        """Fail: there is no attention map."""
        raise NotImplementedError


class StandInOpeners:
    """Opens the simulated GPU everywhere."""

    devices: Sequence[str] = ("card",)

    def __init__(self, batch: int) -> None:
        self._batch = batch

    def open_whole(self, source: str, precision: str, device: str) -> StandIn:
        """Return the simulated GPU."""
        return StandIn(self._batch)

    def open_outer(self, source: str, precision: str, told: Mapping[str, Any]) -> StandIn:
        """Return the simulated GPU."""
        return StandIn(self._batch)


@contextmanager
def _follow_nothing() -> Iterator[Callable[[], None]]:
    yield lambda: None


def main() -> None:
    """Serve until a signal."""
    port, workers, batch = map(int, sys.argv[1:4])
    settings = ServerSettings(log_requests=False, batching=Batching(image_batch=batch))
    configure_logs("text", requests=False)
    with bind_port("127.0.0.1", port) as listener:
        if workers == 1:
            service = Service(settings, lambda source, precision: StandIn(batch))
            service.load("card", "card")
            run_server(service, listener)
            return
        plan = FamilyPlan(
            settings,
            StandInOpeners(batch),
            ListenAddress("127.0.0.1", port),
            workers,
            {"card": "card"},
            {},
            lambda: None,
            _follow_nothing,
            {"card": ServedBundle("card", build_manifest(), "StandIn")},
        )
        run_family(plan, listener)


if __name__ == "__main__":
    main()
