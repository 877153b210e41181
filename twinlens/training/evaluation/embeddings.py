"""Embeddings of a whole source by a run or a bundle, behind one small interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from twinlens.bundle.encoder import Encoder, open_bundle
from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.errors import InputError
from twinlens.training.config import TrainingSettings
from twinlens.training.data.pixels import PixelBatch, PixelStore
from twinlens.training.data.records import DataSource, Record
from twinlens.training.data.sources import open_source
from twinlens.training.data.tokens import RunTokenizer
from twinlens.training.devices import pick_device
from twinlens.training.encoders.token_tower import TokenTower
from twinlens.training.progress import Display
from twinlens.training.runs.run import CONFIG, TrainedRun, image_spec, open_run
from twinlens.training.seeds import generator

BATCH = 256
T = TypeVar("T")


class Embedder(Protocol):
    """The interface that evaluation needs of an encoder."""

    preprocessor: Preprocessor
    has_text: bool

    def images(self, pixels: PixelBatch) -> Tensor:
        """Return embeddings of uint8 pixels (n, h, w, 3)."""
        ...

    def texts(self, texts: list[str]) -> Tensor:
        """Return embeddings of texts."""
        ...


@dataclass(frozen=True)
class EmbeddingSet:
    """A source's usable images: embeddings (n, d) and their records."""

    rows: Tensor
    records: Sequence[Record]
    bad: int


def open_embedder(where: str, *, best: bool = False) -> Embedder:
    """Return the encoder at `where`: a run (its `best` checkpoint on request), or a bundle."""
    if (Path(where) / CONFIG).is_file():
        return RunEmbedder(open_run(Path(where), best=best))
    if best:
        raise InputError(
            f"--best is for runs, and {where} is not a run; leave it out", field="--best"
        )
    return BundleEmbedder(open_bundle(where))


class TowerEmbedder:
    """Towers in evaluation mode, in torch, on their device; embeddings are returned on the CPU."""

    def __init__(
        self,
        towers: Mapping[str, nn.Module],
        settings: TrainingSettings,
        tokenizer: RunTokenizer | None,
        device: torch.device,
    ) -> None:
        self._towers, self._device, self._tokenizer = towers, device, tokenizer
        self.preprocessor = Preprocessor(image_spec(settings))
        self.has_text = "text" in towers
        self._mean = torch.tensor(settings.mean, device=device)[:, None, None]
        self._std = torch.tensor(settings.std, device=device)[:, None, None]

    @torch.no_grad()
    def images(self, pixels: PixelBatch) -> Tensor:
        """Return embeddings of uint8 pixels (n, h, w, 3)."""
        rows: Tensor = self._towers["image"](self._normalise(pixels))
        return rows.float().cpu()

    @torch.no_grad()
    def texts(self, texts: list[str]) -> Tensor:
        """Return embeddings of texts."""
        assert self._tokenizer is not None, "this run has no text tower. This is a bug"
        tokens = torch.from_numpy(self._tokenizer.batch(texts)).to(self._device)
        rows: Tensor = self._towers["text"](tokens)
        return rows.float().cpu()

    def _normalise(self, pixels: PixelBatch) -> Tensor:
        moved = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2)
        return (moved.float() / 255 - self._mean) / self._std


class RunEmbedder(TowerEmbedder):
    """The served encoder of a run on disk."""

    def __init__(self, run: TrainedRun) -> None:
        settings, device = run.config.settings, pick_device("auto")
        tokenizer = RunTokenizer(settings, run.folder) if "text" in run.towers else None
        if tokenizer is not None:
            tokenizer.cuts = bool(getattr(run.text_encoder, "cuts", True))
        towers = {name: tower.to(device) for name, tower in run.towers.items()}
        super().__init__(towers, settings, tokenizer, device)
        self._encoder = run.image_encoder.to(device)

    @torch.no_grad()
    def patches(self, pixels: PixelBatch) -> Tensor:
        """Return patch tokens (n, patches, width) of uint8 pixels (n, h, w, 3)."""
        assert isinstance(self._encoder, TokenTower), "patches of a tower without. This is a bug"
        return self._encoder.tokens(self._normalise(pixels))[:, 1:].cpu()


class BundleEmbedder:
    """A bundle's encoder, on ONNX Runtime."""

    def __init__(self, encoder: Encoder) -> None:
        if encoder.manifest.image is None:
            raise InputError(f"{encoder.name} has no image tower; there is nothing to evaluate")
        self._encoder = encoder
        self.preprocessor = Preprocessor(encoder.manifest.image)
        self.has_text = encoder.manifest.text is not None

    def images(self, pixels: PixelBatch) -> Tensor:
        """Return embeddings of uint8 pixels (n, h, w, 3)."""
        return torch.from_numpy(np.asarray(self._encoder.encode_pixels(pixels)))

    def texts(self, texts: list[str]) -> Tensor:
        """Return embeddings of texts."""
        return torch.from_numpy(np.asarray(self._encoder.embed_texts(texts)))


class DrawnImages:
    """Images of a source, at most `limit` of them drawn with a fixed seed, one block at a time.

    Up to `room` bytes of them stay decoded, for callers that read them more than once.
    """

    def __init__(
        self, source: DataSource, decode: Preprocessor, limit: int, room: float = 0.0
    ) -> None:
        self._store = PixelStore(source, decode, memory_bytes=0)
        order = torch.randperm(len(self._store), generator=generator(17)).tolist()
        self._chosen = sorted(order[: limit or None])
        self._room = room
        self._kept: dict[int, tuple[PixelBatch | None, list[Record]]] = {}

    def __len__(self) -> int:
        return len(self._chosen)

    @property
    def bad(self) -> int:
        """The number of drawn images that cannot be decoded."""
        return len(self._store.bad)

    def blocks(self) -> Iterator[tuple[PixelBatch | None, list[Record], int]]:
        """Yield pixels (None: none can be decoded), their records, and how many were tried."""
        done = 0
        for number, positions in enumerate(_blocks(self._chosen)):
            pixels, records = self._kept.get(number) or self._decode(number, positions)
            done += len(positions)
            yield pixels, records, done

    def close(self) -> None:
        """End the decoding threads."""
        self._store.close()

    def _decode(
        self, number: int, positions: Sequence[int]
    ) -> tuple[PixelBatch | None, list[Record]]:
        images, kept = self._store.fetch_good(positions)
        pixels = np.stack(images) if images else None
        records = [self._store.source.records[record] for record in kept]
        size = 0 if pixels is None else pixels.nbytes
        if size <= self._room:
            self._room -= size
            self._kept[number] = pixels, records
        return pixels, records


def embed_drawn(
    embedder: Embedder, images: DrawnImages, tick: Callable[[int, int], None]
) -> EmbeddingSet:
    """Return embeddings of the images; `tick` receives the number done and the total."""
    rows, records = [], []
    for pixels, own, done in images.blocks():
        if pixels is not None:
            rows.append(embedder.images(pixels))
            records += own
        tick(done, len(images))
    if not rows:
        raise InputError(f"none of the {len(images)} images can be decoded")
    return EmbeddingSet(torch.cat(rows), records, images.bad)


def embed_source(embedder: Embedder, where: str, limit: int, display: Display) -> EmbeddingSet:
    """Return embeddings of the images at `where`, at most `limit` of them drawn at random."""
    images = DrawnImages(open_source(where), embedder.preprocessor, limit)
    try:
        return embed_drawn(
            embedder,
            images,
            lambda done, of: display.advance(f"embedding {Path(where).name}", done, of, {}),
        )
    finally:
        images.close()


def embed_texts(embedder: Embedder, texts: Sequence[str]) -> Tensor:
    """Return embeddings (m, d) of texts."""
    return torch.cat([embedder.texts(list(block)) for block in _blocks(texts)])


def _blocks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))
