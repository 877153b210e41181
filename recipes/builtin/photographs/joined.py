"""One encoder made of two: the drawings' towers and the photographs', one graph per modality.

A row interleaves both spaces, so that a truncated row keeps the most informative dimensions of
both. A drawing's row is zero in the photographs' space and a photograph's in the drawings'; a
text's row is the same in both. The dot product then compares a text with each picture in the space
that suits the picture.

What must stay true: every step is continuous in the pixels, so that a picture between the two kinds
is partly of both. Where the first gate is 1, the photographs' tower changes nothing, so that it may
be skipped (`recipes.builtin.photographs.graphs.skipping`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.builtin import towers
from recipes.builtin.photographs.fetch import PIXEL_MEAN, PIXEL_STD
from recipes.builtin.photographs.space import DIM, Rows
from recipes.builtin.tokens import TRAINED_LENGTH

WIDTH = 2 * DIM


@dataclass(frozen=True)
class Head:
    """Converts features of a photograph to a row: softmax over classes, and a linear part."""

    weight: Rows  # (classes, features)
    bias: Rows
    space: Rows  # (classes, dim)
    linear: Rows  # (dim, features)
    offset: Rows  # (dim,)
    share: float  # of the linear part
    stress: Rows  # (dim,): weight of each dimension of a picture's row


@dataclass(frozen=True)
class Gate:
    """How much a picture is a drawing, from its features: 0 = not at all, 1 = wholly."""

    weight: Rows  # (features,)
    bias: float


@dataclass(frozen=True)
class Gates:
    """The first reads the drawings' tower, which sees every picture; the last the photographs'."""

    first: Gate
    last: Gate


class OpenGate(nn.Module):
    """A gate inside the graph."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.weight = nn.Buffer(torch.from_numpy(gate.weight)[None])
        self.bias = nn.Buffer(torch.tensor([gate.bias], dtype=torch.float32))

    def forward(self, features: Tensor) -> Tensor:
        """Return (n,), each 0 to 1."""
        return F.linear(features, self.weight, self.bias).squeeze(-1).clamp(0, 1)


class DrawingTower(nn.Module):
    """Features of the drawings' tower, and rows from them."""

    def __init__(self, tower: towers.ImageTower, side: int) -> None:
        super().__init__()
        self.tower = tower
        shrink = torch.from_numpy(shrinking(side, towers.IMAGE_SIZE))
        self.shrink_rows, self.shrink_columns = nn.Buffer(shrink), nn.Buffer(shrink.T.contiguous())

    def features(self, pixels: Tensor) -> Tensor:
        """Return (n, features) of pixels of 0..1."""
        small = (self.shrink_rows @ (pixels @ self.shrink_columns)).clamp(0, 1)
        small = (small - towers.PIXEL_MEAN) / towers.PIXEL_STD
        stem = F.relu(self.tower.stem_norm(self.tower.stem(small)))
        maps = self.tower.blocks(stem).float()
        return _total(maps.mean((2, 3)), maps.amax((2, 3)))

    def read(self, features: Tensor) -> Tensor:
        """Return unit rows (n, dim)."""
        return _unit(self.tower.projection(features))


class PhotoTower(nn.Module):
    """Features of the published tower, and rows from them."""

    def __init__(self, backbone: nn.Module, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Buffer(torch.from_numpy(head.weight).half())  # stored small
        self.bias = nn.Buffer(torch.from_numpy(head.bias))
        self.space = nn.Buffer(torch.from_numpy(head.space).half())
        self.linear = nn.Buffer(torch.from_numpy(head.linear).half())
        self.offset = nn.Buffer(torch.from_numpy(head.offset))
        self.stress = nn.Buffer(torch.from_numpy(head.stress))
        self.share = head.share

    def features(self, pixels: Tensor) -> Tensor:
        """Return (n, features) of pixels of 0..1."""
        return read_features(self.backbone, pixels)

    def read(self, features: Tensor) -> Tensor:
        """Return unit rows (n, dim)."""
        seen = F.linear(features, self.classifier.float(), self.bias).softmax(-1)
        straight = F.linear(features, self.linear.float(), self.offset)
        both = _total(_unit(seen @ self.space.float()), self.share * _unit(straight))
        return _unit(both * self.stress)


class JoinedImages(nn.Module):
    """Pixels of 0..1, (n, 3, 224, 224), to rows (n, 512)."""

    def __init__(self, drawings: DrawingTower, photos: PhotoTower, gates: Gates) -> None:
        super().__init__()
        self.drawings, self.photos = drawings, photos
        self.first_gate, self.last_gate = OpenGate(gates.first), OpenGate(gates.last)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return rows of unit length up to rounding."""
        features, outlines = self.photos.features(pixels), self.drawings.features(pixels)
        drawn = torch.maximum(self.first_gate(outlines), self.last_gate(features)).unsqueeze(-1)
        return interleave(
            drawn.sqrt() * self.drawings.read(outlines),
            (1 - drawn).sqrt() * self.photos.read(features),
        )


class JoinedTexts(nn.Module):
    """Tokens of the longer tokenizer (n, length) to rows (n, 512).

    Each token is spelled in the drawings' tokens for their tower, which reads the first twenty.
    """

    def __init__(
        self, drawings: nn.Module, photos: nn.Module, spelling: list[list[int]], weight: float
    ) -> None:
        super().__init__()
        self.drawings, self.photos, self.weight = drawings, photos, weight
        longest = max(map(len, spelling))
        table = np.zeros((len(spelling), longest), np.int64)
        for number, tokens in enumerate(spelling):
            table[number, : len(tokens)] = tokens
        table[towers.PAD_ID] = towers.PAD_ID
        self.spelling = nn.Buffer(torch.from_numpy(table))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return rows; both halves have equal length except for the drawings' weight."""
        drawn = _unit(self.drawings(self.spell(tokens)))
        return interleave(self.weight * drawn, _unit(self.photos(tokens)))

    def spell(self, tokens: Tensor) -> Tensor:
        """Return the drawings' tokens (n, 20), padding at the end."""
        spelled = F.embedding(tokens, self.spelling).flatten(1)
        present = (spelled != towers.PAD_ID).long()
        place = present.cumsum(1) - 1
        kept = (present == 1) & (place < TRAINED_LENGTH)
        place = torch.where(kept, place, TRAINED_LENGTH)  # the last column takes all others
        empty = torch.zeros_like(spelled[:, :1]).expand(-1, TRAINED_LENGTH + 1)
        return empty.scatter(1, place, spelled)[:, :TRAINED_LENGTH]


def read_features(backbone: nn.Module, pixels: Tensor) -> Tensor:
    """Return the published tower's features (n, features) of pixels of 0..1."""
    maps: Tensor = backbone((pixels - PIXEL_MEAN) / PIXEL_STD)
    return maps.mean((2, 3))


def interleave(one: Tensor, other: Tensor) -> Tensor:
    """Return (n, 2 d) with the entries of both in turn."""
    return torch.stack([one, other], dim=-1).flatten(1)


def shrinking(side: int, smaller: int) -> Rows:
    """Return the matrix (smaller, side) of Pillow's bicubic resize."""
    columns = [Image.fromarray(row[None]) for row in np.eye(side, dtype=np.float32)]
    resized = [column.resize((smaller, 1), Image.Resampling.BICUBIC) for column in columns]
    return np.stack([np.asarray(one)[0] for one in resized], axis=1).astype(np.float32)


def _total(one: Tensor, other: Tensor) -> Tensor:
    """Return the sum in a form that int8 quantisation skips, since it converts plain additions."""
    return torch.stack([one, other]).sum(0)


def _unit(rows: Tensor) -> Tensor:
    lengths: Tensor = rows.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return rows / lengths
