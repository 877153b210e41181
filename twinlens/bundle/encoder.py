"""The encoder: a verified bundle behind a few methods, used wherever something is embedded.

What must stay true: rows are float32 and of unit length; an item's embedding does not depend on its
batch (to 1e-5); an encoder is complete or `open_bundle` raises. Thread-safe.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.arrays import Rows
from twinlens.bundle.classes import build_class_bank
from twinlens.bundle.dimensions import check_dimensions, shorten
from twinlens.bundle.golden import Replay, replay_golden
from twinlens.bundle.image.decoding import decode_batches
from twinlens.bundle.image.preprocessing import ImageLimits, ImageSource, Preprocessor
from twinlens.bundle.location import BUILTIN, find_bundle
from twinlens.bundle.manifest import Manifest
from twinlens.bundle.prompts import add_prompt
from twinlens.bundle.session import Graph, Runtime
from twinlens.bundle.store import verify_bundle
from twinlens.bundle.text.token_batches import pad_rows
from twinlens.bundle.text.tokenizer import Tokenizer, open_tokenizer
from twinlens.errors import BundleError, InputError

IMAGE_BATCH = 8  # larger batches are not faster on a CPU and add latency
TEXT_BATCH = 32
_CACHED_BANKS = 16


def open_bundle(
    path_or_name: str | Path = BUILTIN,
    *,
    precision: str = "fp32",
    device: str = "auto",
    threads: int | None = None,
    verify: bool = True,
    fast: bool = False,
    limits: ImageLimits | None = None,
) -> Encoder:
    """Open the bundle at a path, the one that ships with the package (`builtin`), or a ready model.

    A ready model is `hf:OWNER/NAME[@REVISION]` or the folder of one: it is pulled at first use,
    and opened from the cache afterwards. `precision` selects a variant if the bundle has it; `fast`
    decodes large JPEG files at reduced size. `verify` checks every file's hash first; turn it off
    only for a folder that this program has verified before.
    """
    folder = find_bundle(path_or_name, (precision,))
    manifest = verify_bundle(folder, hashes=verify)
    return Encoder(folder, manifest, precision, Runtime(device, threads), fast=fast, limits=limits)


class Encoder:
    """An opened bundle: `embed_*` and `zero_shot` for users, single stages for the server."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        precision: str = "fp32",
        runtime: Runtime | None = None,
        *,
        fast: bool = False,
        limits: ImageLimits | None = None,
    ) -> None:
        """Load every part of a verified bundle; use `open_bundle` instead."""
        runtime = runtime or Runtime()
        self.folder = folder
        self.manifest = manifest
        self.runtime = runtime
        self.precisions: dict[str, str] = {}
        self._preprocessor: Preprocessor | None = None
        self._tokenizer: Tokenizer | None = None
        self._towers: dict[str, Graph] = {}
        if manifest.image:
            limits = limits or ImageLimits()
            self._preprocessor = Preprocessor(manifest.image, fast=fast, limits=limits)
            self._open_tower("image", "pixels", precision)
        if manifest.text:
            self._tokenizer = open_tokenizer(manifest.text, folder)
            self._open_tower("text", "tokens", precision)
        if precision not in ("fp32", *self.precisions.values()):
            have = sorted({v.precision for v in manifest.variants} | {"fp32"})
            raise InputError(
                f"precision {precision!r} is not in bundle {manifest.name!r}; it has "
                f"{', '.join(have)}",
                field="precision",
            )
        self._similarity = Graph(
            folder / manifest.similarity.file,
            runtime,
            inputs=("embeddings", "classes"),
            output="scores",
        )
        self._attention: Graph | None = None
        self._banks: dict[tuple[tuple[str, ...], tuple[str, ...]], Rows] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        towers = ", ".join(f"{tower} {precision}" for tower, precision in self.precisions.items())
        return (
            f"<Encoder {self.name} {self.revision[:12]}: {self.embedding_dim} dimensions, "
            f"{towers}, on {self.provider}>"
        )

    @property
    def name(self) -> str:
        """The bundle's name."""
        return self.manifest.name

    @property
    def revision(self) -> str:
        """The identity of this encoder's embeddings."""
        return self.manifest.revision

    @property
    def embedding_dim(self) -> int:
        """The full length of an embedding."""
        return self.manifest.embedding_dim

    @property
    def provider(self) -> str:
        """The ONNX Runtime provider that the sessions run on."""
        return next(iter(self._towers.values())).provider

    def embed_images(self, images: Sequence[ImageSource], *, dimensions: int | None = None) -> Rows:
        """Return the embeddings (n, d) of encoded bytes, paths, PIL images or uint8 arrays."""
        self._require("image")
        if isinstance(images, str | bytes | Path) or not isinstance(images, Sequence):
            raise InputError(
                "images must be a list; wrap a single image as [image]", field="images"
            )
        rows = [
            self.encode_pixels(pixels)
            for pixels in decode_batches(self.preprocess, images, IMAGE_BATCH)
        ]
        return self.shorten(self._stack(rows), dimensions)

    def embed_texts(
        self,
        texts: Sequence[str],
        *,
        dimensions: int | None = None,
        input_type: str | None = None,
    ) -> Rows:
        """Return the embeddings (n, d) of strings, behind the bundle's prompt for `input_type`."""
        if isinstance(texts, str):
            raise InputError("texts must be a list; wrap a single text as [text]", field="texts")
        texts = add_prompt(self.manifest, texts, input_type)
        return self.shorten(self.encode_tokens(self.tokenize(texts)), dimensions)

    def zero_shot(
        self,
        images: Sequence[ImageSource],
        classes: Sequence[str],
        templates: Sequence[str] | None = None,
    ) -> Rows:
        """Return the score of every class for every image (n, classes), by the similarity node.

        Softmax bundles return probabilities that sum to 1 over the classes; sigmoid bundles
        (SigLIP) return one independent probability per class.
        """
        bank = self.class_bank(classes, templates)
        return self.classify(self.embed_images(images), bank)[0]

    def class_bank(self, classes: Sequence[str], templates: Sequence[str] | None = None) -> Rows:
        """Return one unit row per class (m, d); `templates` None means the bundle's own."""
        self._require("text")
        chosen = tuple(self.manifest.templates if templates is None else templates)
        key = (tuple(classes), chosen)
        with self._lock:
            bank = self._banks.get(key)
        if bank is None:
            bank = build_class_bank(self.embed_texts, classes, chosen)
            bank.setflags(write=False)
            with self._lock:
                self._banks[key] = bank
                while len(self._banks) > _CACHED_BANKS:
                    self._banks.pop(next(iter(self._banks)))
        return bank

    def classify(self, embeddings: Rows, bank: Rows) -> tuple[Rows, Rows]:
        """Return (scores, cosines), both (n, m), of embeddings (n, d) against a bank (m, d)."""
        if embeddings.ndim != 2 or bank.ndim != 2 or embeddings.shape[1] != bank.shape[1]:
            raise InputError(
                f"embeddings {embeddings.shape} and class bank {bank.shape} do not match: "
                "both must be two-dimensional with rows of one length"
            )
        if not len(embeddings) or not len(bank):
            empty = np.zeros((len(embeddings), len(bank)), np.float32)
            return empty, empty.copy()
        feeds = {"embeddings": embeddings.astype(np.float32, copy=False), "classes": bank}
        scores, similarities = self._similarity.run(["scores", "similarities"], feeds)
        return scores, similarities

    def preprocess(self, image: ImageSource) -> NDArray[np.uint8]:
        """Return the image tower's input pixels (height, width, 3) of one image."""
        self._require("image")
        assert self._preprocessor is not None
        return self._preprocessor(image)

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> Rows:
        """Return the embeddings (n, d) of preprocessed pixels (n, height, width, 3)."""
        self._require("image")
        tower = self._towers["image"]
        batches = [pixels[i : i + IMAGE_BATCH] for i in range(0, len(pixels), IMAGE_BATCH)]
        return self._stack([tower.run(["embedding"], {"pixels": batch})[0] for batch in batches])

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, without padding."""
        self._require("text")
        assert self._tokenizer is not None
        return self._tokenizer.encode(texts) if len(texts) else []

    def encode_tokens(self, tokens: Sequence[Sequence[int]]) -> Rows:
        """Return the embeddings (n, d) of token lists; texts of similar length share a batch."""
        self._require("text")
        rows = np.empty((len(tokens), self.embedding_dim), np.float32)
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        for start in range(0, len(order), TEXT_BATCH):
            chosen = order[start : start + TEXT_BATCH]
            batch = self._pad([tokens[i] for i in chosen])
            rows[chosen] = self._towers["text"].run(["embedding"], {"tokens": batch})[0]
        return rows

    def attention(self, pixels: NDArray[np.uint8]) -> Rows:
        """Return the last layer's [CLS] attention (n, heads, rows, columns) of pixels."""
        spec = self.manifest.attention
        if spec is None:
            raise InputError(
                f"bundle {self.name!r} has no attention output; only ViT image towers can be "
                "exported with one"
            )
        with self._lock:
            if self._attention is None:
                path = self.folder / spec.file
                self._attention = Graph(path, self.runtime, inputs=("pixels",), output="attention")
        return self._attention.run(["attention"], {"pixels": pixels})[0]

    def shorten(self, rows: Rows, dimensions: int | None) -> Rows:
        """Return the first `dimensions` of each row, normalised again; None keeps all."""
        check_dimensions(self.manifest, dimensions)
        return shorten(rows, dimensions)

    def warm_up(self) -> None:
        """Run each tower once, so that the first request does not wait for memory and plans."""
        if self.manifest.image:
            spec = self.manifest.image
            self.encode_pixels(np.zeros((1, spec.height, spec.width, 3), np.uint8))
        if self.manifest.text:
            self.embed_texts(["warm"])

    def check(self) -> Replay:
        """Replay the golden vectors; raise if the embeddings differ from the exported ones."""
        return replay_golden(self)

    def _open_tower(self, tower: str, input_name: str, precision: str) -> None:
        """Open one tower at `precision`, or at its reference where it has no such variant."""
        graphs = self.manifest.list_graphs(tower)
        chosen = precision if precision in graphs else next(iter(graphs))
        path = self.folder / graphs[chosen]
        graph = Graph(path, self.runtime, inputs=(input_name,), output="embedding")
        graph.check_dim("embedding", 1, self.embedding_dim)
        if self.manifest.image and tower == "image":
            graph.check_dim("pixels", 1, self.manifest.image.height)
            graph.check_dim("pixels", 2, self.manifest.image.width)
        self._towers[tower] = graph
        self.precisions[tower] = chosen

    def _require(self, tower: str) -> None:
        if tower not in self._towers:
            raise InputError(
                f"bundle {self.name!r} has no {tower} tower; it embeds "
                f"{' and '.join(self._towers)}s only"
            )

    def _stack(self, rows: list[Rows]) -> Rows:
        return np.concatenate(rows) if rows else np.zeros((0, self.embedding_dim), np.float32)

    def _pad(self, tokens: list[Sequence[int]]) -> NDArray[np.int64]:
        """Return the token lists as one array, padded as this text tower requires."""
        spec = self.manifest.text
        assert spec is not None
        length = max(map(len, tokens)) if spec.cut_to_longest else spec.context_length
        return pad_rows(tokens, spec.pad_id, length)


__all__ = ["BUILTIN", "BundleError", "Encoder", "find_bundle", "open_bundle"]
