"""A locked image tower's embeddings of all images: computed once, kept on disk, read by every run.

A folder is named by a hash of the tower's weights, the data and the view (how a picture is
prepared); every run with the same three reads it. What must stay true: rows are those of the served
encoder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from twinlens.bundle.arrays import Pixels
from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.cache import find_cache
from twinlens.training.config import Config
from twinlens.training.data.feeder import Draft
from twinlens.training.data.pixels import PixelStore
from twinlens.training.data.records import DataSource, fingerprint
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.loop.row_store import KeptRows, RowStore
from twinlens.training.nn.network import Network, hash_weights
from twinlens.training.objective import LOCKED, Locked
from twinlens.training.progress import Display
from twinlens.training.runs.run import image_spec

FOLDER = "locked"
BLOCK = 64  # images in a forward pass


@dataclass(frozen=True)
class LockedEmbeddings:
    """Adds `locked` (n, width) to a batch."""

    rows: Tensor
    places: dict[int, int]  # record -> row
    needs_views: ClassVar[bool] = False

    def make(self, draft: Draft) -> dict[str, Tensor]:
        """Return the rows of a batch."""
        return {LOCKED: self.rows[[self.places[record] for record in draft.records]]}


@dataclass(frozen=True)
class LockedTower:
    """The embeddings of pictures prepared as for the served encoder."""

    tower: nn.Module
    config: Config
    device: torch.device

    @torch.no_grad()
    def __call__(self, pixels: list[Pixels], records: list[int], view: int) -> dict[str, Tensor]:
        """Return `rows` (n, width)."""
        settings = self.config.settings
        mean, std = (torch.tensor(row, device=self.device) for row in (settings.mean, settings.std))
        found = []
        for start in range(0, len(pixels), BLOCK):
            some = torch.from_numpy(np.stack(pixels[start : start + BLOCK]))
            seen = some.to(self.device).float() / 255
            found.append(self.tower(((seen - mean) / std).permute(0, 3, 1, 2)).float().cpu())
        return {"rows": torch.cat(found)}


def open_embeddings(found: KeptRows) -> LockedEmbeddings:
    """Return the maker that adds the rows to batches."""
    places = {record: place for place, record in enumerate(found.records)}
    return LockedEmbeddings(found.rows["rows"][:, 0], places)


def ask_locked(
    config: Config,
    net: Network,
    source: DataSource,
    ranks: Ranks,
    device: torch.device,
    display: Display,
) -> KeptRows | None:
    """Return the image tower's embeddings of all images, if it is locked."""
    if config.objective.find_extra(Locked) is None:
        return None
    settings = config.settings
    named = "/" in settings.encoder.partition(":")[2] or settings.pretrained or settings.init
    if ranks.first and not named:
        display.say("the locked image tower has random weights; --set init=SOURCE gives it others")
    return provide_locked(config, net["image"], source, ranks, device, display)


def provide_locked(
    config: Config,
    tower: nn.Module,
    source: DataSource,
    ranks: Ranks,
    device: torch.device,
    display: Display,
) -> KeptRows:
    """Return the tower's embeddings of the images; the first rank computes missing ones."""
    folder = find_cache() / FOLDER / name_rows(config, tower, source)
    kept = RowStore(folder, len(source.records))
    if ranks.first:
        if kept.is_complete:
            display.say(f"reading the locked tower's embeddings from {folder}")
        else:
            prepare = Preprocessor(image_spec(config.settings))
            with contextlib.closing(PixelStore(source, prepare, memory_bytes=0)) as store:
                kept.fill(store, LockedTower(tower, config, device), display)
            display.say(f"the locked tower's embeddings are kept in {folder}")
    ranks.wait()
    return kept.read()


def name_rows(config: Config, tower: nn.Module, source: DataSource) -> str:
    """Return a hash of the weights, the data and the view."""
    digest = hashlib.sha256(fingerprint(source.records).encode())
    digest.update(json.dumps(dataclasses.asdict(image_spec(config.settings))).encode())
    digest.update(config.settings.encoder.partition("/")[0].encode())  # weights alone have no shape
    digest.update(hash_weights(tower).encode())
    return digest.hexdigest()[:32]
