"""Weights of transformers models under the names of the modules that `hub_model` builds.

What must stay true: a tower gets all its weights from the source, or is refused; other weights of
the source (a classifier, a decoder, a pooler) are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from twinlens.errors import InputError
from twinlens.training.encoders.hub_model import HubArchitecture

SourceWeights = Mapping[str, Tensor]

# Patterns of their names and ours; separate layers for q, k and v are joined afterwards.
_CLIP_VISION = (
    (r"embeddings\.class_embedding", "class_embedding"),
    (r"embeddings\.patch_embedding\.weight", "conv1.weight"),
    (r"embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"pre_layrnorm\.(\w+)", r"ln_pre.\1"),
    (r"post_layernorm\.(\w+)", r"ln_post.\1"),
)
_CLIP_TEXT = (
    (r"embeddings\.token_embedding\.weight", "token_embedding.weight"),
    (r"embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"final_layer_norm\.(\w+)", r"ln_final.\1"),
    (r"head\.(\w+)", r"text_projection.\1"),
)
_RESBLOCKS = (
    (r"encoder\.layers\.(\d+)\.layer_norm(\d)\.(\w+)", r"transformer.resblocks.\1.ln_\2.\3"),
    (r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(\w+)",
     r"transformer.resblocks.\1.attn.in_proj_\3/\2"),
    (r"encoder\.layers\.(\d+)\.self_attn\.out_proj\.(\w+)",
     r"transformer.resblocks.\1.attn.out_proj.\2"),
    (r"encoder\.layers\.(\d+)\.mlp\.fc1\.(\w+)", r"transformer.resblocks.\1.mlp.c_fc.\2"),
    (r"encoder\.layers\.(\d+)\.mlp\.fc2\.(\w+)", r"transformer.resblocks.\1.mlp.c_proj.\2"),
)  # fmt: skip
_SIGLIP_VISION = (
    (r"embeddings\.patch_embedding\.(\w+)", r"patch_embed.proj.\1"),
    (r"embeddings\.position_embedding\.weight", "pos_embed"),
    (r"encoder\.layers\.(\d+)\.layer_norm(\d)\.(\w+)", r"blocks.\1.norm\2.\3"),
    (r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(\w+)", r"blocks.\1.attn.qkv.\3/\2"),
    (r"encoder\.layers\.(\d+)\.self_attn\.out_proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (r"encoder\.layers\.(\d+)\.mlp\.fc(\d)\.(\w+)", r"blocks.\1.mlp.fc\2.\3"),
    (r"post_layernorm\.(\w+)", r"norm.\1"),
    (r"head\.probe", "attn_pool.latent"),
    (r"head\.attention\.in_proj_(\w+)", r"attn_pool.in_proj.\1"),
    (r"head\.attention\.out_proj\.(\w+)", r"attn_pool.proj.\1"),
    (r"head\.layernorm\.(\w+)", r"attn_pool.norm.\1"),
    (r"head\.mlp\.fc(\d)\.(\w+)", r"attn_pool.mlp.fc\1.\2"),
)
_VIT = (
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.register_tokens", "reg_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.proj.\1"),
    (r"encoder\.layer\.(\d+)\.norm(\d)\.(\w+)", r"blocks.\1.norm\2.\3"),
    (r"encoder\.layer\.(\d+)\.layernorm_before\.(\w+)", r"blocks.\1.norm1.\2"),
    (r"encoder\.layer\.(\d+)\.layernorm_after\.(\w+)", r"blocks.\1.norm2.\2"),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.([qkv])\w+\.(\w+)",
     r"blocks.\1.attn.qkv.\3/\2"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (r"encoder\.layer\.(\d+)\.layer_scale(\d)\.lambda1", r"blocks.\1.ls\2.gamma"),
    (r"encoder\.layer\.(\d+)\.mlp\.fc(\d)\.(\w+)", r"blocks.\1.mlp.fc\2.\3"),
    (r"encoder\.layer\.(\d+)\.intermediate\.dense\.(\w+)", r"blocks.\1.mlp.fc1.\2"),
    (r"encoder\.layer\.(\d+)\.output\.dense\.(\w+)", r"blocks.\1.mlp.fc2.\2"),
    (r"layernorm\.(\w+)", r"norm.\1"),
)  # fmt: skip
_IMAGE = {"clip": (*_CLIP_VISION, *_RESBLOCKS), "siglip": _SIGLIP_VISION}
_ANCHORS = {"clip": "embeddings.class_embedding", "siglip": "embeddings.patch_embedding.weight"}


def load_image(
    model: nn.Module, shape: HubArchitecture, weights: SourceWeights, source: str
) -> None:
    """Load a source's weights into an image half."""
    own = _strip(weights, _ANCHORS.get(shape.kind, "embeddings.cls_token"), source)
    found = _rename(own, _IMAGE.get(shape.kind, _VIT))
    if shape.kind == "clip":
        found["proj"] = weights["visual_projection.weight"].mT
    if shape.kind == "siglip":
        found["pos_embed"] = found["pos_embed"][None]
        _split_pool(found)
    if shape.vision.get("num_register_tokens"):  # timm adds no position to the class token
        positions = found["pos_embed"]
        found["cls_token"] = found["cls_token"] + positions[:, :1]
        found["pos_embed"] = positions[:, 1:]
    _load(model, found, source)


def load_text(
    model: nn.Module, shape: HubArchitecture, weights: SourceWeights, source: str
) -> None:
    """Load a source's weights into a text half."""
    own = _strip(weights, "embeddings.token_embedding.weight", source)
    found = _rename(own, (*_CLIP_TEXT, *_RESBLOCKS))
    if shape.kind == "clip":
        found["text_projection"] = weights["text_projection.weight"].mT
    _load(model, found, source)


def _strip(weights: SourceWeights, anchor: str, source: str) -> dict[str, Tensor]:
    """Return the weights with the prefix removed that stands before the name `anchor`."""
    prefix = next((n.removesuffix(anchor) for n in sorted(weights) if n.endswith(anchor)), None)
    if prefix is None:
        raise InputError(f"init {source!r}: its files hold no weight {anchor!r}", field="init")
    return {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }


def _rename(weights: SourceWeights, rules: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, value in weights.items():
        for theirs, ours in rules:
            match = re.fullmatch(theirs, name)
            if match is not None:
                found[match.expand(ours)] = value
                break
    joined = {name.partition("/")[0] for name in found if "/" in name}
    for name in joined:
        found[name] = torch.cat([found.pop(f"{name}/{part}") for part in "qkv"])
    return found


def _split_pool(found: dict[str, Tensor]) -> None:
    """Split timm's attention pooling into layers for queries, and for keys and values."""
    for kind in ("weight", "bias"):
        whole = found.pop(f"attn_pool.in_proj.{kind}")
        third = len(whole) // 3
        found[f"attn_pool.q.{kind}"] = whole[:third]
        found[f"attn_pool.kv.{kind}"] = whole[third:]


def _load(model: nn.Module, found: dict[str, Tensor], source: str) -> None:
    """Load all weights of a module; new layer scale factors, which no source has, may be absent."""
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in found and "gamma" not in name]
    wrong = [
        name for name in wanted.keys() & found.keys() if wanted[name].shape != found[name].shape
    ]
    if missing or wrong:
        first = (missing + sorted(wrong))[0]
        raise InputError(
            f"init {source!r}: its weights do not fit its config.json: {len(missing)} are absent"
            f" and {len(wrong)} have another shape (the first is {first})",
            field="init",
        )
    model.load_state_dict(found, strict=False)
