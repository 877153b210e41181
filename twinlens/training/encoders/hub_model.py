"""Transformers models as towers, without transformers: CLIP, SigLIP, DINOv2 and ViT.

A configuration builds the equivalent module of open_clip or timm, and weights are renamed to fit.
Everything that training does with those modules (hidden patches, small crops, adapters, rates by
layer) then works here. What must stay true: a form that cannot be built exactly is refused, never
approximated, and every weight of a tower comes from the source.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from torch import nn

from twinlens.errors import InputError, MissingDependencyError
from twinlens.training.encoders.blocks import BranchOptions, branch_open_clip
from twinlens.training.encoders.foreign_vit import OpenClipViT, TimmViT
from twinlens.training.encoders.open_clip_pair import OpenClipText

PAIRS = ("clip", "siglip")
KINDS = (*PAIRS, "dinov2", "dinov2_with_registers", "vit")
_SHARED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "hidden_act")
_VISION = (*_SHARED, "image_size", "patch_size", "layer_norm_eps", "intermediate_size", "mlp_ratio",
           "num_register_tokens", "layerscale_value", "qkv_bias")  # fmt: skip
_TEXT = (*_SHARED, "vocab_size", "max_position_embeddings", "eos_token_id", "layer_norm_eps",
         "intermediate_size", "projection_size")  # fmt: skip


@dataclass(frozen=True)
class HubArchitecture:
    """The architecture of the towers that a configuration describes."""

    kind: str
    vision: Mapping[str, Any]
    text: Mapping[str, Any]
    dim: int  # width of a CLIP's shared space

    def to_text(self) -> str:
        """Return it as one line, for the settings of a run."""
        content = {"kind": self.kind, "vision": self.vision, "text": self.text, "dim": self.dim}
        return json.dumps(content, sort_keys=True)


def read_architecture(config: Mapping[str, Any], source: str) -> HubArchitecture:
    """Return the architecture in a `config.json`; refuse one that cannot be built exactly."""
    kind = str(config.get("model_type", ""))
    if kind not in KINDS:
        raise InputError(
            f"init {source!r} is of type {kind or 'unknown'!r}; training starts from"
            f" {', '.join(KINDS)} (and from many more by open_clip: and timm:)",
            field="init",
        )
    pair = kind in PAIRS
    vision = dict(config["vision_config"]) if pair else dict(config)
    defaults = _DEFAULTS["clip_vision" if kind == "clip" else kind]
    vision = {name: vision.get(name, defaults.get(name)) for name in _VISION}
    text = {name: config["text_config"].get(name, _DEFAULTS[f"{kind}_text"].get(name))
            for name in _TEXT} if pair else {}  # fmt: skip
    if config.get("use_swiglu_ffn") or config.get("vision_config", {}).get(
        "vision_use_head", True
    ) not in (True, None):
        raise InputError(f"init {source!r}: SwiGLU, or a SigLIP without a head, is not built here")
    found = HubArchitecture(
        kind, _drop_absent(vision), _drop_absent(text), int(config.get("projection_dim", 512))
    )
    for side in (found.vision, found.text):
        if side and side["hidden_act"] not in _ACTIVATIONS:
            raise InputError(f"init {source!r}: activation {side['hidden_act']!r} is unknown here")
    return found


def parse_architecture(text: str) -> HubArchitecture:
    """Return what `to_text` wrote."""
    found = json.loads(text)
    return HubArchitecture(found["kind"], found["vision"], found["text"], int(found["dim"]))


def build_image(name: str, shape: HubArchitecture, branches: BranchOptions) -> nn.Module:
    """Return the image half of a new model."""
    vision = shape.vision
    if shape.kind == "clip":
        from open_clip.transformer import VisionTransformer

        model: nn.Module = VisionTransformer(
            image_size=vision["image_size"],
            patch_size=vision["patch_size"],
            width=vision["hidden_size"],
            layers=vision["num_hidden_layers"],
            heads=vision["num_attention_heads"],
            mlp_ratio=_feed(vision),
            output_dim=shape.dim,
            act_layer=_activation(vision),
            norm_layer=_norm(vision),
        )
        branch_open_clip(name, model, branches)
        return model
    return _build_timm(name, shape, branches)


def _build_timm(name: str, shape: HubArchitecture, branches: BranchOptions) -> nn.Module:
    try:
        from timm.models.vision_transformer import VisionTransformer
    except ImportError:
        raise MissingDependencyError("timm is not installed; run: pip install timm") from None
    vision, registers = shape.vision, int(shape.vision.get("num_register_tokens", 0))
    if branches.drop_path_even:
        raise InputError(
            f"encoder {name!r} drops more branches in deeper blocks; --set drop_path_even=false",
            field="drop_path_even",
        )
    model: nn.Module = VisionTransformer(
        img_size=vision["image_size"],
        patch_size=vision["patch_size"],
        num_classes=0,
        global_pool="map" if shape.kind == "siglip" else "token",
        class_token=shape.kind != "siglip",
        embed_dim=vision["hidden_size"],
        depth=vision["num_hidden_layers"],
        num_heads=vision["num_attention_heads"],
        mlp_ratio=_feed(vision),
        qkv_bias=bool(vision.get("qkv_bias", True)),
        init_values=vision.get("layerscale_value") or branches.layer_scale or None,
        reg_tokens=registers,
        no_embed_class=registers > 0,
        drop_path_rate=branches.drop_path,
        norm_layer=functools.partial(nn.LayerNorm, eps=vision["layer_norm_eps"]),
        act_layer=_activation(vision),
    )
    return model


def as_hub_tower(model: nn.Module, shape: HubArchitecture) -> nn.Module:
    """Return an image half as a tower."""
    return OpenClipViT(model) if shape.kind == "clip" else TimmViT(model)


def build_text(shape: HubArchitecture) -> nn.Module:
    """Return the text half of a new model."""
    from open_clip.transformer import TextTransformer

    text, both_ways = shape.text, shape.kind == "siglip"
    eos = int(text.get("eos_token_id", 2))
    model: nn.Module = TextTransformer(
        context_length=text["max_position_embeddings"],
        vocab_size=text["vocab_size"],
        width=text["hidden_size"],
        heads=text["num_attention_heads"],
        layers=text["num_hidden_layers"],
        mlp_ratio=_feed(text),
        output_dim=text.get("projection_size", text["hidden_size"]) if both_ways else shape.dim,
        no_causal_mask=both_ways,
        # Older files have 2 for the end of a text, and mean the highest id.
        pool_type="last" if both_ways else ("argmax" if eos == 2 else "eos"),
        eos_id=eos,
        proj_bias=both_ways,
        act_layer=_activation(text),
        norm_layer=_norm(text),
    )
    return model


def as_hub_text(model: nn.Module, shape: HubArchitecture) -> OpenClipText:
    """Return a text half as a tower."""
    text = shape.text
    context, vocabulary = text["max_position_embeddings"], text["vocab_size"]
    return OpenClipText(SimpleNamespace(text=model, context_length=context, vocab_size=vocabulary))


def _feed(side: Mapping[str, Any]) -> float:
    """Return the ratio of the feed-forward width to the width."""
    if "intermediate_size" in side:
        return float(side["intermediate_size"]) / float(side["hidden_size"])
    return float(side.get("mlp_ratio", 4.0))


def _norm(side: Mapping[str, Any]) -> Callable[..., nn.Module]:
    from open_clip.transformer import LayerNorm

    return functools.partial(LayerNorm, eps=side["layer_norm_eps"])


def _activation(side: Mapping[str, Any]) -> Callable[..., nn.Module]:
    return _ACTIVATIONS[side["hidden_act"]]()


def _quick_gelu() -> Callable[..., nn.Module]:
    from open_clip.transformer import QuickGELU

    found: Callable[..., nn.Module] = QuickGELU
    return found


class TanhGELU(nn.GELU):
    """GELU in its tanh approximation."""

    def __init__(self) -> None:
        super().__init__(approximate="tanh")


def _drop_absent(side: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in side.items() if value is not None}


_ACTIVATIONS: Mapping[str, Callable[[], Callable[..., nn.Module]]] = {
    "quick_gelu": _quick_gelu,
    "gelu": lambda: nn.GELU,
    "gelu_pytorch_tanh": lambda: TanhGELU,
}
# The defaults of transformers.
_DINOV2 = {"hidden_size": 768, "mlp_ratio": 4, "num_hidden_layers": 12, "num_attention_heads": 12,
           "image_size": 224, "patch_size": 16, "hidden_act": "gelu", "layer_norm_eps": 1e-6,
           "layerscale_value": 1.0}  # fmt: skip
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "clip_vision": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                    "num_attention_heads": 12, "image_size": 224, "patch_size": 32,
                    "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
    "clip_text": {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
                  "num_attention_heads": 8, "vocab_size": 49408, "max_position_embeddings": 77,
                  "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "eos_token_id": 49407},
    "siglip": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
               "num_attention_heads": 12, "image_size": 224, "patch_size": 16,
               "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6},
    "siglip_text": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                    "num_attention_heads": 12, "vocab_size": 32000, "max_position_embeddings": 64,
                    "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6},
    "vit": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 12, "image_size": 224, "patch_size": 16, "hidden_act": "gelu",
            "layer_norm_eps": 1e-12},
    "dinov2": _DINOV2,
    "dinov2_with_registers": _DINOV2,
}  # fmt: skip
