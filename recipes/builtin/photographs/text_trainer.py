"""Training the photographs' text tower: from strings to the mixtures that they mean.

The image side never enters: the target of a string is its mixture of the classes' rows. What must
stay true: the schedule goes by steps, so a run that is stopped, or shares its machine, loses
nothing but the random draws.
"""

from __future__ import annotations

import dataclasses
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.builtin.optimizer import Optimizer, clip
from recipes.builtin.photographs.meanings import Saying
from recipes.builtin.photographs.phrasing import Phraser
from recipes.builtin.photographs.space import DIM, Rows
from recipes.builtin.tokens import embed_tokens
from recipes.builtin.towers import TextShape, TextTower
from twinlens.training.progress import Display

CHECKPOINT, PROGRESS, LOG = "text.safetensors", "text.json", "text.jsonl"
CONTEXT = 24  # tokens
SHORT = 128  # dimensions that must work alone
_AVERAGE, _AVERAGE_EVERY = 0.99, 5
_LOOSELY = 3  # every third step leaves merges out
_LOG_EVERY = 100  # steps


@dataclass(frozen=True)
class TextRecipe:
    """How the text tower is trained: `steps` in all, the first without what is held out."""

    steps: int = 2000
    taught_from: float = 0.6  # share of the steps after which nothing is held out
    batch: int = 512
    lr: float = 3e-3
    warmup: int = 200
    dropout: float = 0.1  # of merges, in every third step
    sharpness: float = 15.0  # of the likeness to classes that the tower must reproduce
    likeness: float = 0.5  # weight of that term
    short: float = 0.3  # weight of the first `SHORT` dimensions
    vocabulary: int = 18000
    seed: int = 7
    save_every: float = 90.0  # seconds

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: up, and down along a cosine."""
        warm = min(1.0, (step + 1) / self.warmup)
        return self.lr * warm * max(0.01, float(np.cos(np.pi / 2 * step / self.steps)))


class Tower(nn.Module):
    """The text tower by the name under which the optimizer knows its outer weights."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.text = TextTower(TextShape(vocabulary=vocabulary, context=CONTEXT), DIM)
        for layer in self.text.layers:  # names are learned by heart: dropout only slows that
            layer.dropout = 0.0  # type: ignore[assignment]


def build_tower(vocabulary: int) -> TextTower:
    """Return an untrained text tower in evaluation mode."""
    return Tower(vocabulary).text.eval()


class TextTrainer:
    """One run in the folder `out`."""

    def __init__(self, tokenizer: Path, space: Rows, out: Path, recipe: TextRecipe) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.recipe, self._out = recipe, out
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.enable_truncation(CONTEXT)
        self._space = torch.from_numpy(space)
        torch.manual_seed(recipe.seed)
        self.step, self.seconds = 0, 0.0
        self.model = Tower(self._tokenizer.get_vocab_size())
        self.average = {n: t.clone() for n, t in self.model.state_dict().items()}
        self._optimizer = Optimizer(self.model, weight_decay=0.02)
        if (out / CHECKPOINT).exists():
            self._resume()
        self._rng = random.Random(recipe.seed + self.step)

    def run(self, sayings: Sequence[Saying], targets: Rows, until: int, display: Display) -> None:
        """Train up to a step on strings and their target rows; save now and then."""
        phraser = Phraser(sayings, targets, self._rng)
        saved, began = time.monotonic(), time.process_time() - self.seconds
        losses: list[tuple[float, float]] = []
        while self.step < until:
            losses.append(self._take_step(phraser))
            self.seconds = time.process_time() - began
            if self.step % _LOG_EVERY == 0:
                self._report(losses, display)
                losses.clear()
            if time.monotonic() - saved > self.recipe.save_every:
                self.save()
                saved = time.monotonic()
        self.save()

    def averaged(self) -> TextTower:
        """Return the tower with the running average of its weights, in evaluation mode."""
        tower = Tower(self._tokenizer.get_vocab_size())
        tower.load_state_dict(self.average)
        return tower.text.eval()

    def read(self, texts: Sequence[str], *, loosely: bool = False) -> list[Any]:
        """Return the encodings of texts, with merges left out if `loosely`."""
        self._tokenizer.model.dropout = self.recipe.dropout if loosely else None
        encodings: list[Any] = self._tokenizer.encode_batch_fast(list(texts))
        return encodings

    def save(self) -> None:
        """Write the checkpoint whole or not at all."""
        tensors = {f"model.{n}": t for n, t in self.model.state_dict().items()}
        tensors |= {f"average.{n}": t for n, t in self.average.items()} | self._optimizer.state()
        progress = {"step": self.step, "seconds": round(self.seconds, 1)}
        meta = {name: str(value) for name, value in progress.items()}
        beside = self._out / f"{CHECKPOINT}.new"
        save_file({n: t.contiguous() for n, t in tensors.items()}, beside, metadata=meta)
        beside.replace(self._out / CHECKPOINT)
        told = progress | {"recipe": dataclasses.asdict(self.recipe)}
        (self._out / PROGRESS).write_text(json.dumps(told, indent=1) + "\n")

    def _take_step(self, phraser: Phraser) -> tuple[float, float]:
        said = phraser.draw(self.recipe.batch)
        ids = [e.ids for e in self.read(said.texts, loosely=self.step % _LOOSELY == 0)]
        with torch.autocast("cpu", torch.bfloat16):
            rows = embed_tokens(self.model.text, ids)
        loss, cosine = self._measure(rows.float(), said.targets, said.weights)
        self._optimizer.clear()
        torch.autograd.backward(loss)
        clip(self.model.parameters(), 1.0)
        self._optimizer.step(self.recipe.rate(self.step))
        self.step += 1
        if self.step % _AVERAGE_EVERY == 0:
            self._renew_average()
        return loss.item(), cosine

    def _measure(
        self, rows: Tensor, targets: NDArray[np.float32], weights: NDArray[np.float32]
    ) -> tuple[Tensor, float]:
        """Return the loss, and the mean cosine to the targets."""
        wanted, trust = torch.from_numpy(targets), torch.from_numpy(weights)
        said, sharp = F.normalize(rows, dim=1), self.recipe.sharpness
        cosines = (said * wanted).sum(1)
        short = F.cosine_similarity(rows[:, :SHORT], wanted[:, :SHORT], dim=1)
        with torch.autocast("cpu", torch.bfloat16):
            mine, theirs = said @ self._space.T, wanted @ self._space.T
        theirs = (sharp * theirs.float()).softmax(1)
        apart = F.kl_div((sharp * mine.float()).log_softmax(1), theirs, reduction="none").sum(1)
        each = 2 * (1 - cosines) + self.recipe.likeness * apart + self.recipe.short * (1 - short)
        return (trust * each).mean(), cosines.detach().mean().item()

    def _report(self, losses: Sequence[tuple[float, float]], display: Display) -> None:
        loss, cosine = (float(x) for x in np.mean(losses, axis=0))
        pace = self.step * self.recipe.batch / self.seconds
        line = {"step": self.step, "seconds": round(self.seconds, 1), "loss": round(loss, 4)}
        with (self._out / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line | {"cosine": round(cosine, 4)}) + "\n")
        numbers = {"loss": loss, "cosine": cosine, "texts/s": pace}
        display.advance("words", self.step, self.recipe.steps, numbers)

    @torch.no_grad()
    def _renew_average(self) -> None:
        kept = min(_AVERAGE, self.step / (self.step + 100))
        for name, value in self.model.state_dict().items():
            self.average[name].lerp_(value, 1 - kept)

    def _resume(self) -> None:
        tensors = load_file(self._out / CHECKPOINT)
        with safe_open(self._out / CHECKPOINT, framework="pt") as file:
            meta = file.metadata()
        self.step, self.seconds = int(meta["step"]), float(meta["seconds"])
        for prefix, into in (("model.", None), ("average.", self.average)):
            own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            if into is None:
                self.model.load_state_dict(own)
            else:
                self.average = own
        self._optimizer.restore(tensors, self.step)
        torch.manual_seed(self.recipe.seed + self.step)
