"""A bundle or a run as an encoder of MTEB and MIEB, so that it gets a public yardstick.

    import mteb
    from twinlens.mteb import BundleEncoder
    mteb.evaluate(BundleEncoder("builtin"), mteb.get_tasks(["CIFAR10ZeroShot"]))

What must stay true: MTEB gets the rows that the bundle serves, and an item with a picture and a
text is the normalised sum of both, as MIEB fuses them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from twinlens.errors import MissingDependencyError

if TYPE_CHECKING:
    from twinlens.bundle.encoder import Encoder

try:
    from mteb.models.model_meta import ModelMeta
except ModuleNotFoundError:
    raise MissingDependencyError("twinlens.mteb needs mteb: pip install 'twinlens[mteb]'") from None

Embeddings = npt.NDArray[np.float32]


class BundleEncoder:
    """A bundle behind MTEB's interface of encoders."""

    def __init__(
        self, source: str | Path, revision: str | None = None, *, device: str | None = None
    ) -> None:
        from twinlens.bundle.encoder import open_bundle

        self.encoder: Encoder = open_bundle(source, device=device or "auto")
        self.mteb_model_meta = describe_encoder(self.encoder)

    def encode(
        self, inputs: Iterable[dict[str, Any]], *, prompt_type: Any = None, **_: Any
    ) -> Embeddings:
        """Return unit rows for batches of `text`, `image` or both."""
        kind = "document" if getattr(prompt_type, "value", prompt_type) == "document" else "query"
        rows = [self._encode_batch(batch, kind) for batch in inputs]
        return (
            np.concatenate(rows) if rows else np.empty((0, self.encoder.embedding_dim), np.float32)
        )

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the cosines of all pairs, as MTEB's tensors."""
        return _to_tensor(_unit(embeddings1) @ _unit(embeddings2).T)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the cosine of each row with its partner."""
        return _to_tensor((_unit(embeddings1) * _unit(embeddings2)).sum(axis=1))

    def _encode_batch(self, batch: dict[str, Any], kind: str) -> Embeddings:
        parts = []
        if "image" in batch:
            images = [image.convert("RGB") for image in batch["image"]]
            parts.append(self.encoder.embed_images(images))
        if "text" in batch:
            parts.append(self.encoder.embed_texts(list(batch["text"]), input_type=kind))
        return _unit(sum(parts)) if len(parts) == 2 else parts[0]


def describe_encoder(encoder: Encoder) -> ModelMeta:
    """Return what MTEB's results say of the model: its name, revision and modalities."""
    manifest = encoder.manifest
    modalities = ["image"] * bool(manifest.image) + ["text"] * bool(manifest.text)
    return ModelMeta.create_empty(
        overwrites={
            "name": f"twinlens/{manifest.name}",
            "revision": encoder.revision,
            "embed_dim": encoder.embedding_dim,
            "modalities": modalities,
            "similarity_fn_name": "cosine",
        }
    )


def _unit(rows: Any) -> Embeddings:
    array = np.atleast_2d(np.asarray(rows, np.float32))
    return np.asarray(array / np.linalg.norm(array, axis=1, keepdims=True), np.float32)


def _to_tensor(values: Embeddings) -> Any:
    import torch

    return torch.from_numpy(values)
