"""Embeddings of a whole source by a run or a bundle, behind one small interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from twinlens.bundle.encoder import Encoder, open_bundle
from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.errors import InputError
from twinlens.training.data.pixels import PixelBatch, PixelStore
from twinlens.training.data.records import Record
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
    """A source's usable images: embeddings (n, d), and the records that they are of."""

    rows: Tensor
    records: Sequence[Record]
    bad: int


def open_embedder(where: str) -> Embedder:
    """Return the encoder at `where`: a run, or a bundle (also `builtin`)."""
    if (Path(where) / CONFIG).is_file():
        return RunEmbedder(open_run(Path(where)))
    return BundleEmbedder(open_bundle(where))


class RunEmbedder:
    """A run's towers, in torch, on the run's device; embeddings come back to the CPU."""

    def __init__(self, run: TrainedRun) -> None:
        settings = run.config.settings
        self._device = pick_device("auto")
        self._towers = {name: tower.to(self._device) for name, tower in run.towers.items()}
        self._encoder = run.image_encoder.to(self._device)
        self.preprocessor = Preprocessor(image_spec(settings))
        self.has_text = "text" in run.towers
        self._mean = torch.tensor(settings.mean, device=self._device)[:, None, None]
        self._std = torch.tensor(settings.std, device=self._device)[:, None, None]
        self._tokenizer = RunTokenizer(settings, run.folder) if self.has_text else None

    @torch.no_grad()
    def images(self, pixels: PixelBatch) -> Tensor:
        """Return embeddings of uint8 pixels (n, h, w, 3)."""
        rows: Tensor = self._towers["image"](self._normalise(pixels))
        return rows.cpu()

    @torch.no_grad()
    def patches(self, pixels: PixelBatch) -> Tensor:
        """Return patch tokens (n, patches, width) of uint8 pixels (n, h, w, 3)."""
        assert isinstance(self._encoder, TokenTower), "patches of a tower without. This is a bug"
        return self._encoder.tokens(self._normalise(pixels))[:, 1:].cpu()

    @torch.no_grad()
    def texts(self, texts: list[str]) -> Tensor:
        """Return embeddings of texts."""
        assert self._tokenizer is not None, "this run has no text tower. This is a bug"
        tokens = torch.from_numpy(self._tokenizer.batch(texts)).to(self._device)
        rows: Tensor = self._towers["text"](tokens)
        return rows.cpu()

    def _normalise(self, pixels: PixelBatch) -> Tensor:
        moved = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2)
        return (moved.float() / 255 - self._mean) / self._std


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


def embed_source(embedder: Embedder, where: str, limit: int, display: Display) -> EmbeddingSet:
    """Return embeddings of the images at `where`, at most `limit` of them drawn at random."""
    store = PixelStore(open_source(where), embedder.preprocessor, memory_bytes=0)
    order = torch.randperm(len(store), generator=generator(17)).tolist()
    chosen = sorted(order[: limit or None])
    rows, records = [], []
    for positions in _blocks(chosen):
        pixels, kept = store.fetch_good(positions)
        if kept:
            rows.append(embedder.images(np.stack(pixels)))
            records += [store.source.records[record] for record in kept]
        display.advance(f"embedding {Path(where).name}", positions[-1] + 1, chosen[-1] + 1, {})
    store.close()
    if not rows:
        raise InputError(f"none of the images of {where} can be decoded")
    return EmbeddingSet(torch.cat(rows), records, len(store.bad))


def embed_texts(embedder: Embedder, texts: Sequence[str]) -> Tensor:
    """Return embeddings (m, d) of texts."""
    return torch.cat([embedder.texts(list(block)) for block in _blocks(texts)])


def _blocks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))
