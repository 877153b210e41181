"""Training the photographs' text tower: from strings to the mixtures that they mean.

No image is involved: the target of a string is its mixture of the classes' rows. What must stay
true: schedule and batches depend on steps only, so that an interrupted run, or one on a shared
machine, loses nothing.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.builtin.optimizer import Optimizer, clip
from recipes.builtin.photographs.batches import Batch, Drawer, draw_batches
from recipes.builtin.photographs.phrasing import Phraser
from recipes.builtin.photographs.space import DIM, Rows
from recipes.builtin.towers import TextShape, TextTower
from twinlens.training.progress import Display

CHECKPOINT, PROGRESS, LOG = "text.safetensors", "text.json", "text.jsonl"
TOWER = "tower.safetensors"  # a finished run's average in half precision
CONTEXT = 24  # tokens
SHORT = 128  # dimensions that must work alone
_AVERAGE, _AVERAGE_EVERY = 0.99, 5
_PARTS_ON_CPU, _PARTS = 5, 3  # of a batch, by length: little padding, but more launches
_LOG_EVERY = 100  # steps


@dataclass(frozen=True)
class TextRecipe:
    """How the text tower is trained."""

    steps: int = 1900
    batch: int = 2048
    lr: float = 3e-3
    warmup: int = 300
    dropout: float = 0.1  # of merges left out, in every third step
    sharpness: float = 15.0  # of the similarities to classes that the tower must reproduce
    likeness: float = 0.5  # weight of that term
    short: float = 0.3  # weight of the first `SHORT` dimensions
    vocabulary: int = 18000
    width: int = 256
    depth: int = 3  # layers
    seed: int = 7
    save_every: float = 90.0  # seconds
    start: str = ""  # folder of a finished run whose towers are trained further
    device: str = "cpu"
    processes: int = 0  # processes that draw batches ahead; 0 draws each when its step comes

    def shape(self) -> TextShape:
        """Return the tower's sizes, but for its vocabulary."""
        return TextShape(width=self.width, depth=self.depth, context=CONTEXT)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: linear warmup, then cosine."""
        warm = min(1.0, (step + 1) / self.warmup)
        return self.lr * warm * max(0.01, float(np.cos(np.pi / 2 * step / self.steps)))


class Tower(nn.Module):
    """The text tower under the name by which the optimizer identifies its outer weights."""

    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        self.text = TextTower(shape, DIM)
        for layer in self.text.layers:  # names must be memorised: dropout only slows that
            layer.dropout = 0.0  # type: ignore[assignment]


def read_tower(tokenizer: Path, run: Path, recipe: TextRecipe) -> TextTower:
    """Return the tower of a finished run, in evaluation mode."""
    vocabulary = Tokenizer.from_file(str(tokenizer)).get_vocab_size()
    tower = Tower(dataclasses.replace(recipe.shape(), vocabulary=vocabulary)).text.eval()
    tower.load_state_dict({n: t.float() for n, t in load_file(run / TOWER).items()})
    return tower


class TextTrainer:
    """One run in the folder `out`."""

    def __init__(self, tokenizer: Path, space: Rows, out: Path, recipe: TextRecipe) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.recipe, self._out = recipe, out
        self._before: object = None  # what the run that this one started from says of itself
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.enable_truncation(CONTEXT)
        vocabulary = self._tokenizer.get_vocab_size()
        self.shape = dataclasses.replace(recipe.shape(), vocabulary=vocabulary)
        self._device = torch.device(recipe.device)
        self._space = torch.from_numpy(space).to(self._device)
        torch.manual_seed(recipe.seed)
        self.step, self.seconds = 0, 0.0
        self.model = Tower(self.shape).to(self._device)
        self.average = {n: t.clone() for n, t in self.model.state_dict().items()}
        self._optimizer = Optimizer(self.model, weight_decay=0.02)
        if (out / CHECKPOINT).exists():
            self._resume()

    def start_from(self, finished: Path) -> None:
        """Begin with the tower that a finished run kept, unless this run has already begun."""
        told = finished / PROGRESS
        self._before = json.loads(told.read_text("utf-8")) if told.exists() else "finished"
        if self.step == 0:
            kept = load_file(finished / TOWER, device=self.recipe.device)
            self.model.text.load_state_dict({n: t.float() for n, t in kept.items()})
            self.average = {n: t.clone() for n, t in self.model.state_dict().items()}

    def run(self, phraser: Phraser, rows: Rows, until: int, display: Display) -> None:
        """Train up to a step on strings with target `rows`; save at intervals."""
        recipe, targets = self.recipe, torch.from_numpy(rows).to(self._device)
        parts = _PARTS_ON_CPU if self._device.type == "cpu" else _PARTS
        drawer = Drawer(phraser, self._tokenizer, recipe.batch, recipe.dropout, recipe.seed, parts)
        pinned, steps = self._device.type == "cuda", range(self.step, until)
        saved, began = time.monotonic(), time.monotonic() - self.seconds
        told: list[Tensor] = []
        for batch in draw_batches(drawer, steps, recipe.processes, pinned=pinned):
            told.append(self._take_step(batch.to(self._device), targets))
            if self.step % _LOG_EVERY == 0:
                self.seconds = time.monotonic() - began
                self._report(torch.stack(told).mean(0).tolist(), display)
                told.clear()
            if time.monotonic() - saved > recipe.save_every:
                self.save()
                saved = time.monotonic()
        self.seconds = time.monotonic() - began
        self.save()

    def averaged(self) -> TextTower:
        """Return the tower with the running average of its weights, in evaluation mode."""
        tower = Tower(self.shape)
        tower.load_state_dict(self.average)
        return tower.text.eval()

    def finish(self) -> None:
        """Save the averaged tower, the only part that the bundle needs."""
        halves = {n: t.half().contiguous() for n, t in self.averaged().state_dict().items()}
        save_file(halves, self._out / TOWER)

    def save(self) -> None:
        """Write the checkpoint atomically."""
        tensors = {f"model.{n}": t for n, t in self.model.state_dict().items()}
        tensors |= {f"average.{n}": t for n, t in self.average.items()} | self._optimizer.state()
        progress = {"step": self.step, "seconds": round(self.seconds, 1)}
        meta = {name: str(value) for name, value in progress.items()}
        beside = self._out / f"{CHECKPOINT}.new"
        save_file({n: t.contiguous() for n, t in tensors.items()}, beside, metadata=meta)
        beside.replace(self._out / CHECKPOINT)
        told = progress | {"recipe": dataclasses.asdict(self.recipe) | {"start": self._before}}
        (self._out / PROGRESS).write_text(json.dumps(told, indent=1) + "\n")

    def _take_step(self, batch: Batch, targets: Tensor) -> Tensor:
        """Return the loss and the mean cosine to the targets, on the device."""
        with torch.autocast(self._device.type, torch.bfloat16):
            rows = torch.cat([self.model.text(part) for part in batch.parts()])
        loss, cosine = self._measure(rows.float(), batch.aim(targets), batch.weights)
        self._optimizer.clear()
        torch.autograd.backward(loss)
        clip(self.model.parameters(), 1.0)
        self._optimizer.step(self.recipe.rate(self.step))
        self.step += 1
        if self.step % _AVERAGE_EVERY == 0:
            self._renew_average()
        return torch.stack([loss.detach(), cosine])

    def _measure(self, rows: Tensor, wanted: Tensor, trust: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss, and the mean cosine to the targets."""
        said, sharp = F.normalize(rows, dim=1), self.recipe.sharpness
        cosines = (said * wanted).sum(1)
        short = F.cosine_similarity(rows[:, :SHORT], wanted[:, :SHORT], dim=1)
        with torch.autocast(self._device.type, torch.bfloat16):
            mine, theirs = said @ self._space.T, wanted @ self._space.T
        theirs = (sharp * theirs.float()).softmax(1)
        apart = F.kl_div((sharp * mine.float()).log_softmax(1), theirs, reduction="none").sum(1)
        each = 2 * (1 - cosines) + self.recipe.likeness * apart + self.recipe.short * (1 - short)
        return (trust * each).mean(), cosines.detach().mean()

    def _report(self, told: Sequence[float], display: Display) -> None:
        loss, cosine = told
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
        tensors = load_file(self._out / CHECKPOINT, device=self.recipe.device)
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
