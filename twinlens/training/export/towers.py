"""A tower made ready for export: the inputs, torch's outputs, and the module to trace.

What must stay true: the reference comes from the model as its library wrote it, on texts padded to
the full context; a rewriting or a cut is used only after torch gave the same rows with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.bundle.manifest import TextSpec
from twinlens.bundle.text.tokenizer import Tokenizer
from twinlens.training.export.description import (
    ATTENTION_FILE,
    IMAGE_FILE,
    TEXT_FILE,
    AttentionMap,
    ImageTower,
    TextTower,
)
from twinlens.training.export.gate import EmbeddingRows
from twinlens.training.export.wrappers import (
    AttentionFace,
    PixelFace,
    TokenFace,
    channel_column,
    unit_rows,
)

Note = Callable[[str], None]

# Between two ways to compute a row in torch: only float32 rounding through a deep tower.
_EXACT: Final = 2e-5


@dataclass(frozen=True)
class ExportTower:
    """One wrapped module, with what is needed to trace and to check it."""

    name: str
    file: str
    face: nn.Module
    input_name: str
    dims: Mapping[int, str]
    reference: EmbeddingRows
    batch: Callable[[int, int], NDArray[Any]]  # the inputs of the golden rows start to stop
    preprocess: Callable[[bytes], NDArray[Any]] | None = None  # of an image tower

    def feed(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Return the graph's inputs for the golden rows `start` to `stop`."""
        return {self.input_name: self.batch(start, stop)}

    @property
    def example(self) -> Tensor:
        """A batch to trace with; two rows, since a single one could become a constant."""
        return torch.from_numpy(self.batch(0, 2))


def prepare_image(tower: ImageTower, images: Sequence[bytes], note: Note) -> ExportTower:
    """Return the image tower ready to trace, with torch's outputs for `images`."""
    preprocessor = Preprocessor(tower.spec)
    pixels = np.stack([preprocessor(image) for image in images])
    spec = tower.spec
    with torch.no_grad():
        moved = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float32)
        normal = (moved / 255 - channel_column(spec.mean)) / channel_column(spec.std)
        reference = unit_rows(tower.module.eval()(normal))
        module = tower.module
        if tower.lean is not None:
            gap = _difference(unit_rows(tower.lean.eval()(normal)), reference)
            module = _choose(tower.lean, module, gap, "image", note)
    return ExportTower(
        name="image",
        file=IMAGE_FILE,
        face=PixelFace(module, spec.mean, spec.std),
        input_name="pixels",
        dims={0: "n"},
        reference=reference.numpy(),
        batch=lambda start, stop: pixels[start:stop],
        preprocess=preprocessor,
    )


def prepare_attention(
    attention: AttentionMap, tower: ImageTower, pixels: Callable[[int, int], NDArray[Any]]
) -> ExportTower:
    """Return the attention map ready to trace over the same pixels."""
    return ExportTower(
        name="attention",
        file=ATTENTION_FILE,
        face=AttentionFace(attention.module, tower.spec.mean, tower.spec.std),
        input_name="pixels",
        dims={0: "n"},
        reference=np.zeros((0, 0), np.float32),
        batch=pixels,
    )


def prepare_text(
    tower: TextTower, tokenizer: Tokenizer, texts: Sequence[str], note: Note
) -> tuple[ExportTower, TextSpec]:
    """Return the text tower ready to trace, and its spec, with cut or padding decided by a test."""
    rows = tokenizer.encode(list(texts))
    padded = torch.from_numpy(pad_tokens(rows, tower.spec, cut=False))
    with torch.no_grad():
        reference = unit_rows(tower.module.eval()(padded))
        module = tower.module
        if tower.lean is not None:
            gap = _difference(unit_rows(tower.lean.eval()(padded)), reference)
            module = _choose(tower.lean, module, gap, "text", note)
        reason = tower.padding_reason or find_padding_reason(module, rows, tower.spec, reference)
    spec = dataclasses.replace(
        tower.spec, file=TEXT_FILE, cut_to_longest=not reason, padding_reason=reason
    )
    if reason:
        note(f"text: padded to {spec.context_length} tokens: {reason}")
    dims = {0: "n"} if reason else {0: "n", 1: f"length:{spec.context_length}"}
    prepared = ExportTower(
        name="text",
        file=TEXT_FILE,
        face=TokenFace(module),
        input_name="tokens",
        dims=dims,
        reference=reference.numpy(),
        batch=lambda start, stop: pad_tokens(rows[start:stop], spec, cut=spec.cut_to_longest),
    )
    return prepared, spec


def find_padding_reason(
    module: nn.Module, rows: Sequence[Sequence[int]], spec: TextSpec, reference: Tensor
) -> str:
    """Return why texts must be padded to the context, or "" if cutting them was verified.

    Each text runs alone at its own length, then all but the longest together.
    """
    shortest = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for group in [*([i] for i in shortest), shortest[:-1]]:
        tokens = pad_tokens([rows[i] for i in group], spec, cut=True)
        try:
            found = unit_rows(module(torch.from_numpy(tokens)))
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            summary = str(error).strip().splitlines()[0][:120]
            return f"the tower takes no text of {tokens.shape[1]} tokens ({summary})"
        gap = _difference(found, reference[group])
        if not gap <= _EXACT:
            return f"cut to {tokens.shape[1]} tokens the embeddings change by {gap:.1e}"
    return ""


def pad_tokens(rows: Sequence[Sequence[int]], spec: TextSpec, *, cut: bool) -> NDArray[np.int64]:
    """Return token lists as one array (n, length), padded to the longest or to the context."""
    length = max(map(len, rows)) if cut else spec.context_length
    tokens = np.full((len(rows), length), spec.pad_id, np.int64)
    for i, ids in enumerate(rows):
        tokens[i, : len(ids)] = ids
    return tokens


def write_tokenizer(tower: TextTower, folder: Path) -> None:
    """Write the tokenizer file into `folder` under the spec's name."""
    tower.write_tokenizer(folder / tower.spec.tokenizer)


def _choose(lean: nn.Module, module: nn.Module, gap: float, name: str, note: Note) -> nn.Module:
    """Return `lean` if it gave the model's rows, else report that and return the model."""
    if gap <= _EXACT:
        return lean
    note(f"{name}: the rewritten tower differs from the model by {gap:.1e}; exported unchanged")
    return module


def _difference(rows: Tensor, reference: Tensor) -> float:
    return float((rows - reference).abs().max())
