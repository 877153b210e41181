"""An image tower's features at each place of a picture, besides its served representation."""

from __future__ import annotations

from torch import Tensor, nn

from twinlens.training.encoders.resnet import ResNet
from twinlens.training.encoders.token_tower import TokenTower


def read_features(tower: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return features by place (n, width, h, h) and the representation (n, width), in one pass.

    A tower without places, such as a convolutional one of timm, has a single place: the
    representation.
    """
    if isinstance(tower, ResNet):
        features = tower.features(images)
        return features, features.mean(dim=(2, 3))
    if isinstance(tower, TokenTower):
        tokens = tower.tokens(images)
        side = images.shape[-1] // tower.patch
        return tokens[:, 1:].mT.unflatten(2, (side, side)), tokens[:, 0]
    served: Tensor = tower(images)
    return served[:, :, None, None], served
