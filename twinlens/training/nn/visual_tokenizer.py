"""A small visual tokenizer: each patch of an image becomes one of K codes (a VQ autoencoder).

van den Oord et al. 2017, https://arxiv.org/abs/1711.00937, with a codebook of unit rows that track
the mean of their patches by EMA. BEiT predicts its codes. A run trains its own before its first
step, from its data and seed alone, and keeps the file; `tokenizer=FILE` uses another run's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from twinlens.errors import InputError, NotFoundError
from twinlens.training.seeds import generator

FILE = "visual_tokenizer.safetensors"
TRAIN = "train"
COMMITMENT = 0.25
FOLLOW = 0.95  # EMA factor of a code's mean, per step
RARE = 0.1  # of its fair share; a code used less is replaced by a row of the batch
RATE = 5e-3


@dataclass(frozen=True)
class Codes:
    """Which tokenizer a method needs: the number of codes, and its source."""

    size: int
    tokenizer: str = TRAIN
    steps: int = 500


class VisualTokenizer(nn.Module):
    """Images (n, 3, h, w) to codes (n, patches) and back."""

    codebook: Tensor
    mass: Tensor

    def __init__(self, patch: int, size: int, width: int = 64, dim: int = 16) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, patch, patch),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, dim, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(dim, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
            nn.ConvTranspose2d(width, 3, patch, patch),
        )
        self.register_buffer("codebook", nn.functional.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("mass", torch.ones(size))

    def encode(self, images: Tensor) -> Tensor:
        """Return a unit row for each patch (n, rows, columns, dim)."""
        rows: Tensor = self.encoder(images).permute(0, 2, 3, 1)
        return nn.functional.normalize(rows, dim=-1)

    @torch.no_grad()
    def codes(self, images: Tensor) -> Tensor:
        """Return the code of each patch (n, patches), int64."""
        return self._nearest(self.encode(images).flatten(1, 2))

    def reconstruct(self, images: Tensor) -> Tensor:
        """Return the images that the decoder reconstructs from the codes."""
        rows = self.encode(images)
        chosen = self.codebook[self._nearest(rows)]
        image: Tensor = self.decoder(chosen.permute(0, 3, 1, 2))
        return image

    def loss(self, images: Tensor, draws: torch.Generator) -> Tensor:
        """Return the reconstruction error plus the commitment error; update the codebook."""
        rows = self.encode(images)
        nearest = self._nearest(rows)
        chosen = self.codebook[nearest]
        passed = rows + (chosen - rows).detach()  # straight-through estimator
        error = (self.decoder(passed.permute(0, 3, 1, 2)) - images).square().mean()
        self._follow(rows.detach().flatten(0, 2), nearest.flatten(), draws)
        away = (rows - chosen).square().sum(dim=-1).mean()
        total: Tensor = error + COMMITMENT * away
        return total

    def _nearest(self, rows: Tensor) -> Tensor:
        return (rows @ self.codebook.mT).argmax(dim=-1)

    @torch.no_grad()
    def _follow(self, rows: Tensor, nearest: Tensor, draws: torch.Generator) -> None:
        """Move each code to the mean of its rows, and unused codes onto rows."""
        size = len(self.codebook)
        count = torch.bincount(nearest, minlength=size).to(rows.dtype)
        total = torch.zeros_like(self.codebook).index_add_(0, nearest, rows)
        kept = FOLLOW * self.mass[:, None] * self.codebook + (1 - FOLLOW) * total
        self.mass.lerp_(count * size / len(rows), 1 - FOLLOW)
        moved = nn.functional.normalize(kept, dim=1)
        fresh = rows[torch.randint(len(rows), (size,), generator=draws).to(rows.device)]
        rare = self.mass < RARE
        self.codebook.copy_(torch.where(rare[:, None], fresh, moved))
        self.mass.masked_fill_(rare, 1.0)


def fit_tokenizer(tokenizer: VisualTokenizer, batches: Iterable[Tensor], seed: int) -> list[float]:
    """Train the tokenizer on batches of images; return the losses."""
    optimizer = torch.optim.AdamW(tokenizer.parameters(), RATE)
    draws, losses = generator(seed, 37), []
    for images in batches:
        optimizer.zero_grad(set_to_none=True)
        loss = tokenizer.loss(images, draws)
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(float(loss.detach()))
    tokenizer.eval().requires_grad_(False)
    return losses


def provide_visual_tokenizer(
    codes: Codes,
    patch: int,
    folder: Path,
    seed: int,
    batches: Callable[[int], Iterable[Tensor]],
    device: torch.device,
) -> Path:
    """Return the run's tokenizer file: an existing one, a copy of the named one, or a new one."""
    path = folder / FILE
    if path.is_file():
        return path
    with torch.random.fork_rng():
        torch.manual_seed(generator(seed, 41).initial_seed())
        tokenizer = VisualTokenizer(patch, codes.size)
    if codes.tokenizer == TRAIN:
        fit_tokenizer(tokenizer.to(device), batches(codes.steps), seed)
    else:
        tokenizer = read_visual_tokenizer(Path(codes.tokenizer), patch, codes.size)
    beside = path.with_suffix(".part")
    save_file(tokenizer.state_dict(), beside)
    beside.rename(path)
    return path


def read_visual_tokenizer(path: Path, patch: int, size: int) -> VisualTokenizer:
    """Return the tokenizer in a file; refuse one for other patches or of another size."""
    if not path.is_file():
        raise NotFoundError(f"tokenizer {path}: no such file; give {TRAIN}, or a {FILE}")
    tensors = load_file(path)
    tokenizer = VisualTokenizer(patch, size)
    known = tokenizer.state_dict()
    wrong = [
        name for name in known if name not in tensors or tensors[name].shape != known[name].shape
    ]
    if wrong:
        raise InputError(
            f"tokenizer {path} is not for patches of {patch} pixels and {size} codes"
            f" ({wrong[0]} differs)",
            field="tokenizer",
        )
    tokenizer.load_state_dict(tensors)
    return tokenizer.eval().requires_grad_(False)
