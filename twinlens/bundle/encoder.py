"""The encoder: a verified bundle behind a few methods, used wherever something is embedded.

What must stay true: rows are float32 and of unit length; an item's embedding does not depend on its
batch (to 1e-5, in bf16 to that precision's tolerance); an encoder is complete or `open_bundle`
raises. Thread-safe.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.arrays import Pixels, Rows
from twinlens.bundle.class_head import ClassHead, read_heads
from twinlens.bundle.classes import BankCache, build_class_bank
from twinlens.bundle.dimensions import check_dimensions, shorten
from twinlens.bundle.golden import Replay, read_golden, replay_golden
from twinlens.bundle.image.decoding import decode_batches
from twinlens.bundle.image.image_source import OpenedImage
from twinlens.bundle.image.preprocessing import ImageLimits, ImageSource, Preprocessor
from twinlens.bundle.location import BUILTIN, find_bundle
from twinlens.bundle.manifest import Manifest
from twinlens.bundle.prompts import add_prompt
from twinlens.bundle.session import Graph, Runtime
from twinlens.bundle.store import verify_bundle
from twinlens.bundle.text.tokenizer import Tokenizer, open_tokenizer
from twinlens.bundle.tower import Tower, TowerName, find_tower_file
from twinlens.bundle.trial import GoldenSample, open_tower
from twinlens.errors import BundleError, InputError


def open_bundle(
    path_or_name: str | Path = BUILTIN,
    *,
    precision: str = "fp32",
    device: str = "auto",
    threads: int | None = None,
    engine: str = "auto",
    verify: bool = True,
    fast: bool = False,
    limits: ImageLimits | None = None,
    device_memory: float | None = None,
) -> Encoder:
    """Open the bundle at a path, the one that ships with the package (`builtin`), or a ready model.

    A ready model is `hf:OWNER/NAME[@REVISION]` or the folder of one: it is pulled at first use, and
    opened from the cache afterwards. `precision` selects a variant if the bundle has it, or bf16 if
    this machine supports it; `engine` is `onnxruntime`, `openvino`, or `auto`: the one that was
    measured to be faster here. `fast` decodes large JPEG files at reduced size. `device` is auto,
    cpu, or GPUs as `cuda:0,cuda:1`; a tower uses at most `device_memory` GiB of each. `verify`
    checks every file's hash first; turn it off only for a folder that this program has verified
    before.
    """
    folder = find_bundle(path_or_name, (precision,))
    manifest = verify_bundle(folder, hashes=verify)
    runtime = Runtime(device, threads, engine, device_memory)
    return Encoder(folder, manifest, precision, runtime, fast=fast, limits=limits)


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
        self._preprocessor: Preprocessor | None = None
        self._tokenizer: Tokenizer | None = None
        self._towers: dict[str, Tower] = {}
        if manifest.image:
            limits = limits or ImageLimits()
            self._preprocessor = Preprocessor(manifest.image, fast=fast, limits=limits)
            self._open_tower("image", precision)
        if manifest.text:
            self._tokenizer = open_tokenizer(manifest.text, folder)
            self._open_tower("text", precision)
        if precision not in ("fp32", *self.precisions.values()):
            have = sorted({v.precision for v in manifest.variants} | {"fp32"})
            raise InputError(
                f"precision {precision!r} is not in bundle {manifest.name!r}; it has "
                f"{', '.join(have)}",
                field="precision",
            )
        # The similarity node is a function in the file, which only ONNX Runtime inlines.
        self._other = replace(runtime, engine="onnxruntime")
        self._similarity = Graph(
            folder / manifest.similarity.file,
            self._other,
            inputs=("embeddings", "classes"),
            output="scores",
        )
        self.class_heads: tuple[ClassHead, ...] = read_heads(folder, manifest)
        self._attention: Graph | None = None
        self._banks = BankCache()
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
    def precisions(self) -> dict[str, str]:
        """The precision of each tower."""
        return {name: tower.precision for name, tower in self._towers.items()}

    @property
    def engines(self) -> dict[str, str]:
        """The engine that runs each tower: `onnxruntime` or `openvino`."""
        return {name: tower.graph.engine for name, tower in self._towers.items()}

    @property
    def provider(self) -> str:
        """What the towers run on: a provider of ONNX Runtime, OpenVINO on the CPU, or both."""
        providers = (tower.graph.provider for tower in self._towers.values())
        return ", ".join(dict.fromkeys(providers))

    def embed_images(self, images: Sequence[ImageSource], *, dimensions: int | None = None) -> Rows:
        """Return the embeddings (n, d) of encoded bytes, paths, PIL images or uint8 arrays."""
        self._require("image")
        if isinstance(images, str | bytes | Path) or not isinstance(images, Sequence):
            raise InputError(
                "images must be a list; wrap a single image as [image]", field="images"
            )
        batch = self._towers["image"].batches.choose(len(images))
        rows = [
            self.encode_pixels(pixels) for pixels in decode_batches(self.preprocess, images, batch)
        ]
        return self.shorten(self._stack(rows), dimensions)

    def embed_texts(
        self,
        texts: Sequence[str],
        *,
        dimensions: int | None = None,
        input_type: str | None = None,
    ) -> Rows:
        """Return the embeddings (n, d) of strings, after the bundle's prompt for `input_type`."""
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
        return self._banks.get(
            (tuple(classes), chosen), lambda: build_class_bank(self.embed_texts, classes, chosen)
        )

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

    def preprocess(self, image: ImageSource | OpenedImage) -> NDArray[np.uint8]:
        """Return the image tower's input pixels (height, width, 3) of one image."""
        self._require("image")
        assert self._preprocessor is not None
        return self._preprocessor(image)

    def encode_pixels(self, pixels: Pixels | Sequence[Pixels]) -> Rows:
        """Return the embeddings (n, d) of preprocessed pixels: an array, or one for each image."""
        self._require("image")
        return self._towers["image"].encode(pixels)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, without padding."""
        self._require("text")
        assert self._tokenizer is not None
        return self._tokenizer.encode(texts) if len(texts) else []

    def encode_tokens(self, tokens: Sequence[Sequence[int]]) -> Rows:
        """Return the embeddings (n, d) of token lists; texts of similar length share a batch."""
        self._require("text")
        return self._towers["text"].encode(tokens)

    def batch_size(self, tower: TowerName) -> int:
        """Return the batch size beyond which larger ones gain nothing; measured on first use."""
        self._require(tower)
        return self._towers[tower].batches.measure().knee

    def in_flight(self, tower: TowerName) -> int:
        """Return how many batches its devices process at once: one on a CPU, two on a GPU."""
        self._require(tower)
        return self._towers[tower].graph.in_flight

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
                self._attention = Graph(path, self._other, inputs=("pixels",), output="attention")
        return self._attention.run(["attention"], {"pixels": pixels})[0]

    def shorten(self, rows: Rows, dimensions: int | None) -> Rows:
        """Return the first `dimensions` of each row, normalised again; None keeps all."""
        check_dimensions(self.manifest, dimensions)
        return shorten(rows, dimensions)

    def warm_up(self) -> None:
        """Measure and run the batches of each tower, so that no request waits for memory."""
        for tower in self._towers.values():
            tower.warm_up()

    def check(self) -> Replay:
        """Replay the golden vectors; raise if the embeddings differ from the exported ones."""
        return replay_golden(self)

    def _open_tower(self, tower: TowerName, precision: str) -> None:
        """Open one tower at `precision`, or at fp32 if the bundle has no such variant of it."""
        file = find_tower_file(self.folder, self.manifest, tower, precision)
        self._towers[tower] = open_tower(file, self.runtime, lambda: self._read_sample(tower))

    def _read_sample(self, tower: TowerName) -> GoldenSample:
        """Return the golden inputs of a tower, preprocessed or tokenized."""
        golden = read_golden(self.folder)
        if tower == "image":
            assert self._preprocessor is not None
            pixels = [self._preprocessor(image) for image in golden.images]
            return GoldenSample(np.stack(pixels) if pixels else pixels, golden.image_embeddings)
        assert self._tokenizer is not None
        tokens = self._tokenizer.encode(golden.texts) if golden.texts else []
        return GoldenSample(tokens, golden.text_embeddings)

    def _require(self, tower: str) -> None:
        if tower not in self._towers:
            raise InputError(
                f"bundle {self.name!r} has no {tower} tower; it embeds "
                f"{' and '.join(self._towers)}s only"
            )

    def _stack(self, rows: list[Rows]) -> Rows:
        return np.concatenate(rows) if rows else np.zeros((0, self.embedding_dim), np.float32)


__all__ = ["BUILTIN", "BundleError", "Encoder", "find_bundle", "open_bundle"]
