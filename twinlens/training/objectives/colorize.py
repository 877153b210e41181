"""Colorize: predict the colours of an image from its lightness (Zhang et al. 2016).

https://arxiv.org/abs/1603.08511. The a and b of Lab are cut into bins. A cell's target z is spread
over the bins nearest to its colour by a Gaussian. Rare colours weigh more, by the share p of each
bin so far, blended with a uniform one:
    loss = mean over cells of w(nearest) sum over q of -z_q log softmax(logits)_q,
    w_q ~ 1 / ((1 - uniform) p_q + uniform / Q), with sum p_q w_q = 1.
The encoder sees grey pictures; a small decoder reads its features by place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from twinlens.training.encoders.feature_map import read_features
from twinlens.training.nn.network import Network
from twinlens.training.nn.painting import Painter
from twinlens.training.objective import (
    REPRESENTATION,
    Batch,
    BatchRows,
    Centre,
    Declaration,
    Extra,
    LossInputs,
    Objective,
)
from twinlens.training.objectives.mae import plain_crop
from twinlens.training.views.crops import Crops
from twinlens.training.views.lab import Greying, find_bins


@dataclass(frozen=True)
class Colorize(Objective):
    """Classification of colours by place."""

    name: ClassVar[str] = "colorize"
    summary: ClassVar[str] = "predict the colours of each place from the lightness of an image"
    coupled: ClassVar[bool] = False

    cell: int = 4  # side of the cells that get one colour, in pixels
    bin_side: float = 10.0  # of a and b
    nearest: int = 5  # bins that a colour is spread over
    spread: float = 5.0  # standard deviation of that Gaussian
    uniform: float = 0.5  # 1 = all colours weigh the same
    memory: float = 0.99  # EMA factor of the colours' shares, per step
    width: int = 64  # width of the decoder
    layers: int = 3
    crops: Crops = field(default_factory=lambda: plain_crop())

    def views(self) -> Mapping[str, Crops]:
        """One crop, in colour before it turns grey."""
        return {"global": self.crops}

    def extras(self) -> tuple[Extra, ...]:
        """Grey views, with their colours."""
        return (Greying(self.cell),)

    def heads(self, widths: Mapping[str, int]) -> dict[str, nn.Module]:
        """The decoder."""
        cells = max(1, self.crops.side(widths["side"]) // self.cell)
        bins = len(find_bins(self.bin_side))
        return {"decoder": Painter(widths["image"], self.width, self.layers, cells, bins)}

    def state(self) -> tuple[Declaration, ...]:
        """The share of each colour so far."""
        bins = len(find_bins(self.bin_side))
        return (Centre("shares", bins, self.memory, "shares"),)

    def student(self, net: Network, batch: Batch) -> BatchRows:
        """Return logits (n, cells, bins), and the share of each bin in each image (n, bins)."""
        features, served = read_features(net["image"], batch.views["global"][:, 0])
        logits = net["decoder"](features).flatten(2).mT
        places, weights = self.spread_colours(batch.extra["colours"])
        shares = weights.new_zeros(len(logits), logits.shape[-1])
        shares.scatter_add_(1, places.flatten(1), weights.flatten(1) / weights.shape[1])
        return {REPRESENTATION: served.detach()[:, None], "logits": logits, "shares": shares}

    def loss(self, inputs: LossInputs) -> BatchRows:
        """Return the weighted cross-entropy, and the plain one."""
        logs = inputs.student["logits"].log_softmax(dim=-1)
        places, weights = self.spread_colours(inputs.extra["colours"].to(logs))
        found = -(logs.gather(-1, places) * weights).sum(dim=-1)
        rarity = self.weigh_colours(inputs.state["shares"].to(logs))[places[..., 0]]
        return {"loss": (rarity * found).mean(), "cross_entropy": found.mean()}

    def chance(self, batch: int) -> float:
        """Ln of the bins: each is as likely."""
        return math.log(len(find_bins(self.bin_side)))

    def spread_colours(self, colours: Tensor) -> tuple[Tensor, Tensor]:
        """Return the nearest bins of colours (n, cells, 2), nearest first, and their weights."""
        bins = torch.from_numpy(find_bins(self.bin_side)).to(colours)
        away = (colours[..., None, :] - bins).square().sum(dim=-1)
        squared, places = away.topk(min(self.nearest, len(bins)), dim=-1, largest=False)
        return places, (-squared / (2 * self.spread**2)).softmax(dim=-1)

    def weigh_colours(self, shares: Tensor) -> Tensor:
        """Return the weight of each bin: 1 for all before any colour was seen."""
        total, bins = shares.sum(), len(shares)
        known = torch.where(total > 0, shares / total.clamp(min=1e-12), 1 / bins)
        rarity = 1 / ((1 - self.uniform) * known + self.uniform / bins)
        found: Tensor = rarity / (known * rarity).sum()
        return found
