"""The drawings' towers, read back from their bundle, which stores the shipped weights.

The graphs' tensors have the modules' own names; three convolutions that the tracer folded are
identified by their unique shapes. What must stay true: the modules give the bundle's rows
(`read_drawings` compares them on its golden inputs).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from recipes.builtin.photographs.space import unit
from recipes.builtin.storage import fold_norms
from recipes.builtin.tokens import TRAINED_LENGTH
from recipes.builtin.towers import ImageTower, TextShape, TextTower, normalise_pixels
from twinlens.bundle.golden import read_golden
from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.bundle.manifest import MANIFEST_NAME, Manifest, parse_manifest
from twinlens.bundle.text.token_batches import pad_rows
from twinlens.bundle.text.tokenizer import open_tokenizer

_PREFIX = "tower."
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Drawings:
    """Both towers in evaluation mode, with the shipped weights, and the scale of their scores."""

    image: ImageTower
    text: TextTower
    scale: float
    manifest: Manifest


def read_drawings(bundle: Path) -> Drawings:
    """Return the towers of the drawings' bundle; raise if they differ from its graphs."""
    manifest = parse_manifest((bundle / MANIFEST_NAME).read_text(encoding="utf-8"))
    image = fold_norms(ImageTower())
    _fill(image, bundle / "image.onnx")
    text = TextTower(TextShape()).eval()
    _fill(text, bundle / "text.onnx")
    found = Drawings(image, text, manifest.similarity.scale, manifest)
    _compare(found, bundle)
    return found


def _fill(module: nn.Module, file: Path) -> None:
    graph = onnx.load(str(file)).graph
    stored = {t.name: torch.tensor(numpy_helper.to_array(t)).float() for t in graph.initializer}
    state = module.state_dict()
    unnamed = {tuple(t.shape): t for n, t in stored.items() if not n.startswith(_PREFIX)}
    filled: dict[str, Tensor] = {
        name: stored[_PREFIX + name] if _PREFIX + name in stored else unnamed[tuple(value.shape)]
        for name, value in state.items()
    }
    module.load_state_dict(filled)


@torch.no_grad()
def _compare(drawings: Drawings, bundle: Path) -> None:
    golden, manifest = read_golden(bundle), drawings.manifest
    assert manifest.image is not None
    assert manifest.text is not None
    preprocess = Preprocessor(manifest.image)
    pixels = torch.from_numpy(np.stack([preprocess(image) for image in golden.images]))
    tokens = open_tokenizer(manifest.text, bundle).encode(golden.texts)
    ids = torch.from_numpy(pad_rows(tokens, manifest.text.pad_id, TRAINED_LENGTH))
    rows = (drawings.image(normalise_pixels(pixels)), drawings.text(ids))
    for found, wanted in zip(rows, (golden.image_embeddings, golden.text_embeddings), strict=True):
        gap = float((1 - (unit(found.numpy()) * wanted).sum(1)).max())
        if gap > _TOLERANCE:
            raise ValueError(f"{bundle}: weights read back differ from the bundle by {gap:.1e}")
