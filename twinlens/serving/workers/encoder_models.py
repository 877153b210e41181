"""The models of an encoder process: opened by key, closed when retired and unused.

A key names one opening of one bundle, so a swap never changes the model of a connection.
What must stay true: a model is closed only when it is retired and nobody is connected to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np

from twinlens.bundle.tower import TowerName
from twinlens.serving.call import Priority
from twinlens.serving.clock import Clock
from twinlens.serving.contracts import StagedEncoder
from twinlens.serving.engine.speed import ImageSpeed, MeasuredSpeed
from twinlens.serving.engine.throttle import Throttles
from twinlens.serving.engine.ticket import QueueEntry, Ticket
from twinlens.serving.engine.tower import ServedTower
from twinlens.serving.engine.tower_builder import Observe, TowerBuilder
from twinlens.serving.settings import ServerSettings, Watch
from twinlens.serving.workers.items.encoder_client import EncoderClient
from twinlens.serving.workers.items.frames import IMAGE, TEXT
from twinlens.serving.workers.items.shared_items import SharedEntry, SharedItem, Solitude, wrap_run

log = logging.getLogger("twinlens.serving")

_NAMES: dict[int, TowerName] = {IMAGE: "image", TEXT: "text"}


class EncoderModel:
    """One opened bundle at one precision, with its towers."""

    def __init__(
        self,
        name: str,
        encoder: StagedEncoder,
        settings: ServerSettings,
        throttles: Throttles,
        clock: Clock,
        observe: Observe,
        solitude: Solitude,
        leave: Callable[[EncoderModel], None],
    ) -> None:
        self.name = name
        self.encoder = encoder
        self.throttles = throttles
        self.clients: set[EncoderClient] = set()
        self.is_retired = False
        self._leave = leave
        self._lone = count(1)
        build = TowerBuilder(
            name, encoder, settings, throttles, clock, observe, lambda run: wrap_run(run, solitude)
        )
        image = build.build_image_tower(ImageSpeed(1))
        text = build.build_text_tower(MeasuredSpeed())
        self._towers: dict[int, ServedTower[Any, Any]] = {}
        if image is not None:
            self._towers[IMAGE] = image
        if text is not None:
            self._towers[TEXT] = text

    @property
    def towers(self) -> list[ServedTower[Any, Any]]:
        """The towers that this bundle has."""
        return list(self._towers.values())

    def put(self, tower: int, entries: Sequence[SharedEntry], priority: Priority) -> None:
        """Queue items for a tower."""
        self._towers[tower].batcher.put(entries, priority)

    def next_lone_bucket(self) -> int:
        """Return a bucket that no other item is in."""
        return -next(self._lone)

    def leave(self, client: EncoderClient) -> None:
        """Forget a connection that has ended."""
        self.clients.discard(client)
        self._leave(self)

    def describe(self) -> dict[str, Any]:
        """Return what other processes need to know."""
        encoder = self.encoder
        towers = [_NAMES[number] for number in self._towers]
        return {
            "revision": encoder.revision,
            "provider": encoder.provider,
            "engines": dict(encoder.engines),
            "batch_sizes": {tower: encoder.batch_size(tower) for tower in towers},
            "in_flight": {tower: encoder.in_flight(tower) for tower in towers},
        }

    def heal(self, watch: Watch) -> list[str]:
        """Replace dead workers, probe faulty ones; return what is wrong."""
        faults = []
        for number, tower in self._towers.items():
            fault = tower.find_fault(watch)
            if fault is not None:
                faults.append(fault)
                tower.restart_workers(watch)
                self._probe(number, tower)
        return faults

    def _probe(self, number: int, tower: ServedTower[Any, Any]) -> None:
        """Queue a harmless item, so that the recovery of a worker is noticed."""
        if tower.batcher.depth:
            return
        image = self.encoder.manifest.image
        content: Any
        if number == IMAGE and image is not None:
            content = np.zeros((image.height, image.width, 3), np.uint8)
        else:
            content = self.encoder.tokenize(["a probe"])[0]
        item = SharedItem(content, 0, bytearray(1))
        tower.batcher.put([QueueEntry(Ticket(1, lambda: None), 0, item)])

    def close(self) -> None:
        """Stop the workers."""
        for client in list(self.clients):
            client.close()
        for tower in self.towers:
            tower.close()
