"""Image towers with access to patches: hidden ones become mask tokens, or only kept ones enter.

Masked methods call `tokens`, whose first token is always the served one. What must stay true:
`tower(images)` equals `tower.tokens(images)[:, 0]`, at any size that patches divide.
"""

from __future__ import annotations

import abc

from torch import Tensor, nn

SIDE_STEP = 8  # pixels; sides of small views are multiples of this, or of the patch


class TokenTower(nn.Module, abc.ABC):
    """Images (n, 3, h, w) to a representation (n, width), and to tokens of the same width."""

    width: int
    inner: int  # width of a token between the patch layer and the last layer, and of a mask token
    patch: int  # side of a patch in pixels

    @abc.abstractmethod
    def tokens(
        self,
        images: Tensor,
        *,
        hidden: Tensor | None = None,
        mask_token: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> Tensor:
        """Return the representation and the patch tokens (n, 1 + patches, width), normed.

        Patches that are `hidden` (n, patches) are replaced by `mask_token` (inner,). With `keep`
        (n, k), the numbers of some patches, only these are seen and returned, in that order.
        """

    @abc.abstractmethod
    def patch_layer(self) -> nn.Module:
        """Return the layer that maps patches of pixels to tokens."""


def side_step(tower: nn.Module) -> int:
    """Return the number of which the sides of a tower's small views are multiples."""
    if isinstance(tower, TokenTower) and SIDE_STEP % tower.patch:
        return tower.patch
    return SIDE_STEP


def pick(tokens: Tensor, places: Tensor) -> Tensor:
    """Return the tokens (n, k, width) of (n, length, width) at places (n, k)."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))
