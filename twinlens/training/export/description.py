"""What a source knows about an encoder before export: towers, preprocessing, similarity.

A tower's `module` is the model as its library wrote it, and the reference for every check. `lean`
is an optional rewriting that must give the same embeddings; it is used only once that was verified.
Modules return rows of any length; the export normalises them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from torch import nn

from twinlens.bundle.class_head import ClassHead
from twinlens.bundle.manifest import ImageSpec, TextSpec
from twinlens.bundle.model_card import ModelCard

IMAGE_FILE: Final = "image.onnx"
TEXT_FILE: Final = "text.onnx"
ATTENTION_FILE: Final = "attention.onnx"
SIMILARITY_FILE: Final = "similarity.onnx"


@dataclass(frozen=True)
class AttentionMap:
    """A module from normalised pixels to attention (n, heads, rows, columns), and these sizes."""

    module: nn.Module
    heads: int
    rows: int
    columns: int


@dataclass(frozen=True)
class ImageTower:
    """Normalised pixels (n, 3, height, width) to rows (n, d).

    The export sets `spec.file`; the rest of `spec` says how an image becomes pixels.
    """

    module: nn.Module
    spec: ImageSpec
    lean: nn.Module | None = None
    attention: AttentionMap | None = None


@dataclass(frozen=True)
class TextTower:
    """Tokens int64 (n, length) to rows (n, d); any mask is derived from `spec.pad_id` inside.

    `write_tokenizer` writes the tokenizer's file to a given path. The export tests whether batches
    may be cut to their longest text; `padding_reason` says why not, where the source knows.
    """

    module: nn.Module
    spec: TextSpec
    write_tokenizer: Callable[[Path], None]
    lean: nn.Module | None = None
    padding_reason: str = ""


@dataclass(frozen=True)
class Similarity:
    """How scores follow from cosines: softmax(scale * cos), or sigmoid(scale * cos + bias)."""

    kind: Literal["softmax", "sigmoid"] = "softmax"
    scale: float = 1 / 0.07  # the initial scale of contrastive training
    bias: float = 0.0


@dataclass(frozen=True)
class Description:
    """Everything that the export needs to know about an encoder."""

    name: str
    image: ImageTower | None = None
    text: TextTower | None = None
    similarity: Similarity = field(default_factory=Similarity)
    templates: tuple[str, ...] = ("{}",)
    matryoshka_dims: tuple[int, ...] = ()
    any_dimension: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)
    head: ClassHead | None = None  # class rows of a fine-tuned encoder, served as a classifier
    card: ModelCard | None = None  # None: the intended use is unknown
