"""onnx-community and Xenova: `onnx/vision_model.onnx` and `onnx/text_model.onnx`, or one graph.

Other precisions carry an ending (`_fp16`, `_quantized`); the configurations lie at the top.
"""

from __future__ import annotations

from twinlens.bundle.pull.layouts.found import Found, describe_tower, has_file, list_graphs
from twinlens.bundle.pull.repository import Repository

NAME = "onnx-community"
LOOKED_FOR = "onnx/vision_model.onnx, onnx/text_model.onnx, or onnx/model.onnx with both towers"


def find(repository: Repository) -> Found | None:
    """Return the two towers, each in a graph of its own or both in one."""
    image, text = (list_graphs(repository, f"{part}_model") for part in ("vision", "text"))
    if image or text:
        towers = [
            describe_tower(repository, graphs) if graphs else None for graphs in (image, text)
        ]
        return Found(NAME, *towers)
    fused = list_graphs(repository, "model")
    if fused and has_file(repository, "preprocessor_config.json"):
        tower = describe_tower(repository, fused)
        if "tokenizer" in tower.described_by:
            return Found(NAME, tower, tower)
    return None
