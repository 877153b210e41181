"""A text tower alone: `onnx/model.onnx` and `tokenizer.json`, its pooling in `1_Pooling`."""

from __future__ import annotations

from twinlens.bundle.pull.layouts.found import Found, describe_tower, list_graphs
from twinlens.bundle.pull.repository import Repository

NAME = "sentence-transformers"
LOOKED_FOR = "onnx/model.onnx with tokenizer.json"


def find(repository: Repository) -> Found | None:
    """Return the text tower, if the repository describes texts and no pictures."""
    graphs = list_graphs(repository, "model")
    if not graphs:
        return None
    tower = describe_tower(repository, graphs)
    is_text = "tokenizer" in tower.described_by and "processor" not in tower.described_by
    return Found(NAME, None, tower) if is_text else None
