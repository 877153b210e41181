"""Which output of a graph is the embedding, or how an embedding is made from it.

What must stay true: an output is chosen by its name and by the repository's configuration; if
neither decides, the user is asked for the pooling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from twinlens.bundle.pull.head import Dense, TowerHead
from twinlens.errors import BundleError

Outputs = Mapping[str, int]  # each output of the graph with its rank, 0 if unknown

_ROWS: Final = {
    "image": ("image_embeds", "image_embedding", "image_features", "embedding"),
    "text": ("text_embeds", "sentence_embedding", "text_embedding", "text_features", "embedding"),
}
_POOLED: Final = "pooler_output"
_TOKENS: Final = ("last_hidden_state", "token_embeddings", "hidden_states")
# Families whose pooled output is their embedding, and those whose class token is.
_USES_POOLED: Final = (
    "siglip",
    "dinov2",
    "dinov3_vit",
    "convnext",
    "convnextv2",
    "dinov3_convnext",
)
_USES_CLASS_TOKEN: Final = ("vit", "deit", "dinov2", "dinov2_with_registers", "dinov3_vit", "beit")


def choose_head(
    tower: str,
    outputs: Outputs,
    *,
    model_type: str,
    pooling: str = "",
    sentence: str = "",
    layers: Sequence[Dense] = (),
) -> TowerHead:
    """Return the head of a tower.

    `pooling` is the user's choice, `sentence` that of the repository's modules.
    """
    if pooling == _POOLED:
        return TowerHead(_POOLED)
    if pooling:
        return TowerHead(_find_tokens(outputs), pooling, tuple(layers))
    rows = next((name for name in _ROWS[tower] if name in outputs), None)
    if rows is not None:
        return TowerHead(rows)
    if sentence:
        return TowerHead(_find_tokens(outputs), sentence, tuple(layers))
    family = next((name for name in _USES_POOLED if model_type.startswith(name)), None)
    if _POOLED in outputs and (family or model_type.startswith("clip")):
        return TowerHead(_POOLED)
    return _choose_by_family(outputs, model_type)


def _choose_by_family(outputs: Outputs, model_type: str) -> TowerHead:
    tokens = [name for name in _TOKENS if name in outputs]
    if tokens and outputs[tokens[0]] == 4:
        return TowerHead(tokens[0], "mean")
    if tokens and model_type in _USES_CLASS_TOKEN:
        return TowerHead(tokens[0], "cls")
    if len(outputs) == 1 and not tokens and "logits" not in outputs:
        return TowerHead(next(iter(outputs)))
    names = ", ".join(outputs)
    if not tokens and _POOLED not in outputs:
        raise BundleError(
            f"the graph's outputs are {names}: none is an embedding; a classifier cannot be pulled"
        )
    raise BundleError(
        f"nothing says how {names} become one embedding; name the pooling: --pooling cls, mean, "
        "last or pooler_output"
    )


def find_missing_projection(head: TowerHead, model: Mapping[str, Any], tower: str) -> str:
    """Return the name of the weight that a CLIP tower without its projection needs, or ""."""
    joint = str(model.get("model_type", "")) in ("clip", "clip_vision_model", "clip_text_model")
    if head.output != _POOLED or not joint:
        return ""
    return "visual_projection.weight" if tower == "image" else "text_projection.weight"


def _find_tokens(outputs: Outputs) -> str:
    found = [name for name in _TOKENS if name in outputs]
    found += [name for name, rank in outputs.items() if rank == 3]
    if not found:
        raise BundleError(f"the graph has no output per token to pool; it has {', '.join(outputs)}")
    return found[0]
