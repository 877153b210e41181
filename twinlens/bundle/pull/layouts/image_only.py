"""An image tower alone (DINOv2, DINOv3, ViT, ConvNeXt): `model.onnx` and a processor."""

from __future__ import annotations

from twinlens.bundle.pull.layouts.found import Found, describe_tower, list_graphs
from twinlens.bundle.pull.repository import Repository

NAME = "image-only"
LOOKED_FOR = "model.onnx with preprocessor_config.json"


def find(repository: Repository) -> Found | None:
    """Return the image tower, if the repository describes pictures and no texts."""
    graphs = list_graphs(repository, "model")
    if not graphs:
        return None
    tower = describe_tower(repository, graphs)
    described = {"processor", "open_clip"} & set(tower.described_by)
    return Found(NAME, tower, None) if described and "tokenizer" not in tower.described_by else None
