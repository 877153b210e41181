"""open_clip's models: both towers in one space, as their authors serve them.

What must stay true: `text` returns what the model's `encode_text` returns. Where attention is
causal and the end-of-text token is read, later tokens cannot matter and may be cut. Elsewhere texts
are padded to the context, and padding takes part as in the original training.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from twinlens.errors import InputError, MissingDependencyError, NotFoundError

POOLS_THAT_CUT = ("argmax", "eos")


@dataclass(frozen=True)
class Pair:
    """Both halves of a model, with its logit scale and bias."""

    visual: nn.Module
    text: OpenClipText
    scale: float
    bias: float | None


class OpenClipText(nn.Module):
    """The text half of an open_clip model: tokens (n, length) to embeddings (n, width)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.context = int(model.context_length)
        self.vocabulary = int(model.vocab_size)
        self.tower: Any = getattr(model, "text", model)
        nested = self.tower is not model
        if not nested:
            for name in ("visual", "logit_scale", "logit_bias"):
                setattr(model, name, None)
        self.pool: str = self.tower.pool_type if nested else model.text_pool_type
        self.eos: int | None = getattr(self.tower, "eos_id" if nested else "text_eos_id", None)
        self.cuts = (
            self.tower.attn_mask is not None
            and self.pool in POOLS_THAT_CUT
            and getattr(self.tower, "cls_emb", None) is None
        )
        with torch.no_grad():
            self.width = int(self(torch.zeros(1, self.context, dtype=torch.int64)).shape[1])

    def forward(self, tokens: Tensor) -> Tensor:
        """Return embeddings (n, width), not yet of unit length."""
        if not self.cuts:
            found: Tensor = self._whole(tokens)
            return found
        from open_clip.transformer import text_global_pool

        tower, length = self.tower, tokens.shape[1]
        x = tower.token_embedding(tokens) + tower.positional_embedding[:length]
        x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:length, :length]))
        # ONNX Runtime has no ArgMax over int64; every vocabulary fits in int32.
        return self._project(
            text_global_pool(x, tokens.to(torch.int32), self.pool, eos_token_id=self.eos)
        )

    def _whole(self, tokens: Tensor) -> Any:
        encode = getattr(self.tower, "encode_text", self.tower)
        return encode(tokens)

    def _project(self, pooled: Tensor) -> Tensor:
        projection = self.tower.text_projection
        if projection is None:
            return pooled
        found: Tensor = (
            projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
        )
        return found


def open_clip_pair(name: str, image_size: int, tagged: bool) -> Pair:
    """Return both halves of `ARCH[/TAG or path]`."""
    model = open_clip_model(name, image_size, tagged)
    bias = getattr(model, "logit_bias", None)
    scale = float(model.logit_scale.detach().exp())
    visual = model.visual
    return Pair(visual, OpenClipText(model), scale, None if bias is None else float(bias.detach()))


def check_open_clip(name: str, *, weighed: bool = True) -> tuple[str, str]:
    """Return ARCH and the part after it; refuse unknown ARCHs, tags and files.

    Without `weighed`, the part after ARCH is not checked.
    """
    try:
        import open_clip
    except ImportError:
        raise MissingDependencyError(
            "open_clip is not installed; run: pip install open_clip_torch"
        ) from None
    arch, _, weights = name.partition("/")
    if arch not in open_clip.list_models():
        close = difflib.get_close_matches(arch, open_clip.list_models(), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise NotFoundError(f"encoder 'open_clip:{arch}' is unknown to open_clip{hint}")
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if weights and weighed and weights not in tags and not Path(weights).is_file():
        known = ", ".join(tags) or "none"
        raise NotFoundError(
            f"encoder: {weights!r} is neither a file nor a tag of open_clip:{arch}; tags: {known}"
        )
    return arch, weights


def open_clip_model(name: str, image_size: int, tagged: bool) -> Any:
    """Return the model of `ARCH` or `ARCH/TAG or path to weights`, for this image size."""
    arch, weights = check_open_clip(name, weighed=tagged)
    import open_clip

    # The activation of the pretraining belongs to the architecture, whoever loads it.
    trained = open_clip.pretrained.get_pretrained_cfg(arch, weights) if weights else {}
    try:
        return open_clip.create_model(
            arch,
            pretrained=weights if weights and tagged else None,
            force_quick_gelu=bool(trained.get("quick_gelu", False)),
            force_image_size=image_size,
            pretrained_text=False,
        )
    except (RuntimeError, ValueError, KeyError, UnpicklingError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"encoder: {weights or arch!r} does not fit open_clip:{arch} at image_size"
            f" {image_size}: {reason}",
            field="encoder",
        ) from None
