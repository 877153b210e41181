"""Vision transformers of timm and open_clip as towers of tokens, at any image size.

Their modules, weights and names are unchanged; only the input side is ours: positions are
interpolated (bicubic, antialiased) to the grid of the images, hidden patches are replaced before
positions are added, and kept patches are selected after. What must stay true: at its own size a
tower returns exactly what the model returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from twinlens.training.encoders.token_tower import TokenTower, pick


class TimmViT(TokenTower):
    """A VisionTransformer or Eva of timm, or one that open_clip wraps with its own head."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        trunk = self._trunk
        if hasattr(getattr(trunk, "rope", None), "_use_cached_embed"):
            trunk.rope._use_cached_embed = False  # use the grid of the images, not its own
        self.inner, self.patch = int(trunk.embed_dim), int(trunk.patch_embed.patch_size[0])
        self.width = self._measure_width()

    def forward(self, images: Tensor) -> Tensor:
        """Return representations (n, width)."""
        return self._serve(self._encode(images))

    def tokens(
        self,
        images: Tensor,
        *,
        hidden: Tensor | None = None,
        mask_token: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> Tensor:
        """Return the representation and the patch tokens (n, 1 + patches, width)."""
        x = self._encode(images, hidden, mask_token, keep)
        patches = self._head(x[:, self._trunk.num_prefix_tokens :])
        return torch.cat([self._serve(x)[:, None], patches], dim=1)

    def patch_layer(self) -> nn.Module:
        """Return timm's patch embedding."""
        layer: nn.Module = self._trunk.patch_embed
        return layer

    @property
    def _trunk(self) -> Any:
        return getattr(self.model, "trunk", self.model)

    @property
    def _head(self) -> Callable[[Tensor], Tensor]:
        """open_clip's layers on top of the pooled token; they apply to any token."""
        return self.model.head if self._trunk is not self.model else nn.Identity()  # type: ignore[return-value]

    def _serve(self, x: Tensor) -> Tensor:
        return self._head(self._trunk.forward_head(x))

    def _encode(
        self,
        images: Tensor,
        hidden: Tensor | None = None,
        mask_token: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> Tensor:
        """Return all tokens after the last norm, prefix tokens first."""
        trunk, prefix = self._trunk, self._trunk.num_prefix_tokens
        x = trunk.patch_embed.proj(images)
        rows, columns = x.shape[-2:]
        x = hide(trunk.patch_embed.norm(x.flatten(2).mT), hidden, mask_token)
        x = self._place(x, rows, columns)
        if keep is not None:
            x = torch.cat([x[:, :prefix], pick(x[:, prefix:], keep)], dim=1)
        x = trunk.norm_pre(x)
        turns = self._turns(rows, columns, keep)
        for number, block in enumerate(trunk.blocks):
            x = block(x) if turns is None else block(x, rope=turns(number))
        found: Tensor = trunk.norm(x)
        return found

    def _place(self, x: Tensor, rows: int, columns: int) -> Tensor:
        """Add positions and put class, distillation and register tokens in front."""
        trunk = self._trunk
        names = ("cls_token", "dist_token", "reg_token")
        prefix = [getattr(trunk, name, None) for name in names]
        front = [token.expand(x.shape[0], -1, -1) for token in prefix if token is not None]
        positions = trunk.pos_embed
        if positions is not None:
            bare = 0 if trunk.no_embed_class else trunk.num_prefix_tokens
            positions = resize_positions(
                positions, trunk.patch_embed.grid_size, rows, columns, bare
            )
            if trunk.no_embed_class:
                x = x + positions
        x = torch.cat([*front, x], dim=1) if front else x
        if positions is not None and not trunk.no_embed_class:
            x = x + positions
        placed: Tensor = trunk.pos_drop(x)
        return placed

    def _turns(
        self, rows: int, columns: int, keep: Tensor | None
    ) -> Callable[[int], Tensor] | None:
        """Return the rotary positions of each block, if the model has them."""
        rope = getattr(self._trunk, "rope", None)
        if rope is None:
            return None
        angles = rope.get_embed(
            shape=(rows, columns)
        )  # (patches, d), or (depth, heads, patches, d)
        if keep is not None:  # (..., n, k, d), with an axis for the heads
            angles = angles[..., keep, :]
            angles = angles.transpose(1, 2) if angles.ndim == 5 else angles[:, None]
        mixed = bool(getattr(self._trunk, "rope_mixed", False))
        return lambda number: angles[number] if mixed else angles

    @torch.no_grad()
    def _measure_width(self) -> int:
        """Return the width of the representation, measured on one image of 2 x 2 patches."""
        images = torch.zeros(1, 3, 2 * self.patch, 2 * self.patch)
        was_training = self.training
        width = int(self.eval()(images).shape[1])
        self.train(was_training)
        return width


class OpenClipViT(TokenTower):
    """open_clip's own vision transformer, projection included: tokens lie in the shared space."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.model: Any = visual
        self.inner, self.patch = int(visual.conv1.out_channels), int(visual.patch_size[0])  # type: ignore[union-attr, index, arg-type]
        self.width = int(visual.output_dim)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Return representations (n, width)."""
        return self._project(self.model._pool(self._encode(images))[0])

    def tokens(
        self,
        images: Tensor,
        *,
        hidden: Tensor | None = None,
        mask_token: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> Tensor:
        """Return the representation and the projected patch tokens (n, 1 + patches, width)."""
        x = self._encode(images, hidden, mask_token, keep)
        pooled = self.model._pool(x)[0]
        patches = x[:, 1:] if self.model.final_ln_after_pool else self.model.ln_post(x[:, 1:])
        return torch.cat([self._project(pooled)[:, None], self._project(patches)], dim=1)

    def patch_layer(self) -> nn.Module:
        """Return open_clip's first convolution."""
        layer: nn.Module = self.model.conv1
        return layer

    def _project(self, rows: Tensor) -> Tensor:
        return rows if self.model.proj is None else rows @ self.model.proj

    def _encode(
        self,
        images: Tensor,
        hidden: Tensor | None = None,
        mask_token: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> Tensor:
        """Return all tokens that leave the last block, the class token first."""
        model = self.model
        x = model.conv1(images)
        rows, columns = x.shape[-2:]
        x = hide(x.flatten(2).mT, hidden, mask_token)
        front = model.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        positions = model.positional_embedding[None].to(x.dtype)
        x = torch.cat([front, x], dim=1)
        x = x + resize_positions(positions, model.grid_size, rows, columns, 1)
        if keep is not None:
            x = torch.cat([x[:, :1], pick(x[:, 1:], keep)], dim=1)
        found: Tensor = model.transformer(model.ln_pre(model.patch_dropout(x)))
        return found


def hide(x: Tensor, hidden: Tensor | None, mask_token: Tensor | None) -> Tensor:
    """Return patches (n, p, width) with the mask token where they are hidden (n, p)."""
    if hidden is None or mask_token is None:
        return x
    return torch.where(hidden[..., None], mask_token.to(x), x)


def resize_positions(
    positions: Tensor, grid: tuple[int, int], rows: int, columns: int, prefix: int
) -> Tensor:
    """Return positions (1, prefix + rows * columns, width) for another grid of patches.

    For the grid that they were learned on, they are returned unchanged.
    """
    if tuple(grid) == (rows, columns):
        return positions
    front, places = positions[:, :prefix], positions[:, prefix:]
    planes = places.unflatten(1, tuple(grid)).permute(0, 3, 1, 2).float()
    resized = nn.functional.interpolate(
        planes, (rows, columns), mode="bicubic", antialias=True, align_corners=False
    )
    return torch.cat([front, resized.flatten(2).mT.to(positions.dtype)], dim=1)


def find_token_tower(model: nn.Module) -> TokenTower | None:
    """Return a timm or open_clip image model as a tower of tokens, or None for other kinds."""
    if _is_timm_vit(getattr(model, "trunk", model)):
        return TimmViT(model)
    name = f"{type(model).__module__}.{type(model).__qualname__}"
    if name == "open_clip.transformer.VisionTransformer":
        visual: Any = model
        return OpenClipViT(model) if visual.attn_pool is None else None
    return None


def _is_timm_vit(trunk: Any) -> bool:
    """Tell whether a model processes its tokens as `TimmViT` does."""
    if not type(trunk).__module__.startswith("timm."):
        return False
    from timm.layers.patch_embed import PatchEmbed
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    known = (VisionTransformer, VisionTransformerDistilled, Eva)
    if type(trunk) not in known or type(trunk.patch_embed) is not PatchEmbed:
        return False
    return len(set(trunk.patch_embed.patch_size)) == 1
