"""What a locked image tower answers to each image: computed once, kept on disk, read by each run.

A file is named by a hash of the tower's weights, the data and the view (how a picture is prepared):
it is read again by any run to which all three are the same. What must stay true: rows are those of
the encoder that is served, and a file is complete or absent.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.cache import find_cache
from twinlens.errors import InputError, TwinlensError
from twinlens.training.config import Config
from twinlens.training.data.feeder import Draft
from twinlens.training.data.pixels import PixelStore
from twinlens.training.data.records import DataSource, fingerprint
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.objective import LOCKED
from twinlens.training.progress import Display
from twinlens.training.runs.run import image_spec

FOLDER = "locked"
BLOCK = 64  # images in a forward pass


@dataclass(frozen=True)
class LockedRows:
    """Rows (m, width) of the images that can be decoded, their records, and why others cannot."""

    rows: Tensor
    records: tuple[int, ...]
    bad: dict[int, str]


@dataclass(frozen=True)
class LockedEmbeddings:
    """Adds `locked` (n, width) to a batch."""

    rows: Tensor
    places: dict[int, int]  # record -> row
    needs_views: ClassVar[bool] = False

    def make(self, draft: Draft) -> dict[str, Tensor]:
        """Return the rows of a batch."""
        return {LOCKED: self.rows[[self.places[record] for record in draft.records]]}


def open_embeddings(found: LockedRows) -> LockedEmbeddings:
    """Return what adds the rows to batches."""
    places = {record: place for place, record in enumerate(found.records)}
    return LockedEmbeddings(found.rows, places)


def provide_locked(
    config: Config,
    tower: nn.Module,
    source: DataSource,
    ranks: Ranks,
    device: torch.device,
    display: Display,
) -> LockedRows:
    """Return what the tower answers to the images; the first rank computes it if need be."""
    path = find_cache() / FOLDER / f"{name_rows(config, tower, source)}.safetensors"
    if ranks.first:
        if path.is_file():
            display.say(f"the locked tower's embeddings are read from {path}")
        else:
            write_rows(path, embed(config, tower, source, device, display))
            display.say(f"the locked tower's embeddings are kept in {path}")
    ranks.wait()
    return read_rows(path)


def name_rows(config: Config, tower: nn.Module, source: DataSource) -> str:
    """Return a hash of the weights, the data and the view."""
    digest = hashlib.sha256(fingerprint(source.records).encode())
    digest.update(json.dumps(dataclasses.asdict(image_spec(config.settings))).encode())
    digest.update(config.settings.encoder.partition("/")[0].encode())  # weights alone have no shape
    for name, tensor in sorted(tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


@torch.no_grad()
def embed(
    config: Config, tower: nn.Module, source: DataSource, device: torch.device, display: Display
) -> LockedRows:
    """Return what the tower answers to each image, prepared as for the served encoder."""
    settings = config.settings
    store = PixelStore(source, Preprocessor(image_spec(settings)), memory_bytes=0)
    mean, std = (torch.tensor(numbers, device=device) for numbers in (settings.mean, settings.std))
    rows: list[Tensor] = []
    records: list[int] = []
    count = len(store)
    for start in range(0, count, BLOCK):
        pixels, good = store.fetch_good(range(start, min(start + BLOCK, count)))
        if good:
            seen = torch.from_numpy(np.stack(pixels)).to(device).float() / 255
            rows.append(tower(((seen - mean) / std).permute(0, 3, 1, 2)).float().cpu())
            records += good
        display.advance("embedding", min(start + BLOCK, count), count, {})
    store.close()
    if not rows:
        raise InputError(f"none of the {count} images can be decoded", field="DATA")
    return LockedRows(torch.cat(rows), tuple(records), dict(sorted(store.bad.items())))


def write_rows(path: Path, found: LockedRows) -> None:
    """Write the rows beside their place, and rename."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    tensors = {"rows": found.rows, "records": torch.tensor(found.records)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, beside, {"bad": json.dumps(found.bad)})
        beside.replace(path)
    except (OSError, SafetensorError) as error:
        beside.unlink(missing_ok=True)
        raise TwinlensError(
            f"cannot keep the locked tower's embeddings in {path}: {error}; set TWINLENS_CACHE to a"
            " folder with room",
            code="cache_failed",
        ) from error


def read_rows(path: Path) -> LockedRows:
    """Read what `write_rows` wrote."""
    try:
        with safe_open(path, "pt") as file:
            rows, records = file.get_tensor("rows"), file.get_tensor("records")
            bad = json.loads(file.metadata()["bad"])
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read: {error}; delete it and run again") from None
    return LockedRows(rows, tuple(records.tolist()), {int(key): why for key, why in bad.items()})
