"""The training run: resumable at any moment, and as long as it is given.

The learning rate warms up, stays, and falls to zero over the last part of the run; what ships is
the running average of the weights. What must stay true: stopped at any step and started again, a
run goes on from its last checkpoint with all state but the random draws.
"""

from __future__ import annotations

import dataclasses
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from twinlens.training.builtin.captions import Captioner, list_texts
from twinlens.training.builtin.corpus import Corpus, is_monochrome, subgroup
from twinlens.training.builtin.loss import Encoded, measure_loss
from twinlens.training.builtin.optimizer import Optimizer, clip
from twinlens.training.builtin.sampling import Mix, Sampler
from twinlens.training.builtin.tokens import TextReader, embed_tokens, train_tokenizer
from twinlens.training.builtin.towers import IMAGE_SIZE, TextShape, TwoTowers
from twinlens.training.builtin.views import make_views
from twinlens.training.builtin.words import read_words

CHECKPOINT, PROGRESS, TOKENIZER = "last.safetensors", "progress.json", "tokenizer.json"
_AVERAGE = 0.997
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """How a run is made."""

    minutes: float = 150.0  # of training, over all its starts
    cooldown: float = 0.3  # share of the time in which the learning rate falls
    lr: float = 2e-3
    warmup: int = 150  # steps
    size: int = IMAGE_SIZE
    seed: int = 7
    save_every: float = 90.0  # seconds
    mix: Mix = dataclasses.field(default_factory=Mix)


@dataclass(frozen=True)
class Facts:
    """What is known of every image, as tensors (n, ...); -1 = belongs to no class of that bank."""

    pixels: Tensor
    labels: Tensor
    photos: Tensor
    monochrome: Tensor
    classes: dict[str, Tensor]


class Trainer:
    """One run in the folder `out`."""

    def __init__(self, corpus: Corpus, out: Path, recipe: Recipe, tell: Tell = print) -> None:
        self.recipe, self.out, self._tell = recipe, out, tell
        out.mkdir(parents=True, exist_ok=True)
        words = read_words()
        if not (out / TOKENIZER).exists():
            train_tokenizer(list_texts(corpus, words)).save(str(out / TOKENIZER))
        self.step, self.seconds = 0, 0.0
        _seed(recipe.seed)
        self.reader = TextReader(out / TOKENIZER)
        self.model = TwoTowers(TextShape(vocabulary=self.reader.vocabulary))
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self._optimizer = Optimizer(self.model)
        if (out / CHECKPOINT).exists():
            self._resume()
        self._dice = random.Random(recipe.seed + self.step)
        self._captions = Captioner(corpus, words, self._dice)
        self._sampler = Sampler(corpus, recipe.mix, self._dice)
        self._facts = gather_facts(corpus, self._captions)

    def run(self) -> None:
        """Train until the time is up; save now and then, and at the end."""
        saved = time.monotonic()
        while self.share < 1.0:
            started = time.monotonic()
            terms = self.take_step()
            self.seconds += time.monotonic() - started
            if self.step % 50 == 0:
                total = sum(terms.values())
                self._tell(f"step {self.step}: loss {total:.3f}, {self.share:.0%} of the time")
            if time.monotonic() - saved > self.recipe.save_every:
                self.save()
                saved = time.monotonic()
        self.save()

    @property
    def share(self) -> float:
        """The share of its time that the run has used."""
        return self.seconds / (60.0 * self.recipe.minutes)

    def take_step(self) -> dict[str, float]:
        """Make one optimizer step; return the terms of the loss."""
        indices = self._sampler.batch()
        rows = torch.tensor(indices)
        facts, size = self._facts, self.recipe.size
        views = make_views(facts.pixels[rows], facts.photos[rows], facts.monochrome[rows], size)
        others = self._captions.others(indices)
        with torch.autocast("cpu", torch.bfloat16):
            encoded = self._encode(views, indices, [text for _, text in others])
        labels, said = facts.labels[rows], facts.labels[torch.tensor([i for i, _ in others])]
        classes = {name: values[rows] for name, values in facts.classes.items()}
        terms = measure_loss(encoded, labels, said, classes, self.model.scales())
        self._optimizer.clear()
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
        clip(self.model.parameters())
        self._optimizer.step(self._rate())
        self.step += 1
        self._renew_average()
        return {name: value.detach().item() for name, value in terms.items()}

    def save(self) -> None:
        """Write the checkpoint whole or not at all."""
        tensors = {f"average.{name}": value for name, value in self.average.items()}
        tensors |= {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= self._optimizer.state()
        beside = self.out / f"{CHECKPOINT}.new"
        meta = {"step": str(self.step), "seconds": str(self.seconds)}
        save_file({name: t.contiguous() for name, t in tensors.items()}, beside, metadata=meta)
        beside.replace(self.out / CHECKPOINT)
        progress = {"step": self.step, "seconds": self.seconds, "images": self._images()}
        recipe = {"recipe": dataclasses.asdict(self.recipe)}
        (self.out / PROGRESS).write_text(json.dumps(progress | recipe, indent=1) + "\n")

    def _encode(self, views: Tensor, indices: list[int], others: list[str]) -> Encoded:
        """Run both towers over the views and over freshly drawn texts, in one pass of texts."""
        n, m = len(indices), len(others)
        loosely = [self._dice.random() < 0.5 for _ in range(2)]
        ids = self.reader.tokenize([self._captions.english(i) for i in indices], loosely=loosely[0])
        ids += self.reader.tokenize(others, loosely=loosely[1])
        ids += self.reader.tokenize(self._captions.bank())
        texts = embed_tokens(self.model.text, ids).float()
        names = ("groups", "subgroups", "clothes")
        sizes = [len(getattr(self._captions, name)) for name in names]
        banks = dict(zip(names, torch.split(texts[n + m :], sizes), strict=True))
        images = self.model.image(views).float()
        return Encoded(images, texts[:n], texts[n : n + m], banks)

    def _rate(self) -> float:
        warm = min(1.0, (self.step + 1) / self.recipe.warmup)
        cool = min(1.0, max(0.0, 1.0 - self.share) / self.recipe.cooldown)
        return self.recipe.lr * warm * cool

    @torch.no_grad()
    def _renew_average(self) -> None:
        kept = min(_AVERAGE, (self.step + 1) / (self.step + 20))
        for name, value in self.model.state_dict().items():
            if value.dtype.is_floating_point:
                self.average[name].lerp_(value, 1 - kept)
            else:
                self.average[name] = value.clone()

    def _images(self) -> int:
        mix = self.recipe.mix
        return self.step * (2 * mix.concepts + mix.icons + mix.clothes)

    def _resume(self) -> None:
        tensors = load_file(self.out / CHECKPOINT)
        with safe_open(self.out / CHECKPOINT, framework="pt") as file:
            meta = file.metadata()
        self.step, self.seconds = int(meta["step"]), float(meta["seconds"])
        self.model.load_state_dict(_strip(tensors, "model."))
        self.average = _strip(tensors, "average.")
        self._optimizer.restore(tensors, self.step)
        _seed(self.recipe.seed + self.step)
        self._tell(f"resumed at step {self.step}")


def gather_facts(corpus: Corpus, captions: Captioner) -> Facts:
    """Return the facts of a corpus, images in the order emoji, icons, clothes."""
    parts = (corpus.emoji, corpus.icons, corpus.clothes)
    names = [str(row["label"]).lower() for row in corpus.emoji.rows]
    names += [str(row["caption"]).lower() for row in corpus.icons.rows]
    names += [captions_name(row["cls"]) for row in corpus.clothes.rows]
    number = {name: i for i, name in enumerate(sorted(set(names)))}
    photos = torch.zeros(len(names), dtype=torch.bool)
    photos[-len(corpus.clothes) or len(names) :] = True
    mono = [is_monochrome(row) for part in parts for row in part.rows]
    return Facts(
        pixels=torch.from_numpy(np.concatenate([part.pixels for part in parts])),
        labels=torch.tensor([number[name] for name in names]),
        photos=photos,
        monochrome=torch.tensor(mono) & ~photos,
        classes=_gather_classes(corpus, captions),
    )


def captions_name(clothing_class: str) -> str:
    """Return the English name of a clothing class: an icon or emoji of that name means the same."""
    return read_words().clothes[clothing_class]["en"].lower()


def _gather_classes(corpus: Corpus, captions: Captioner) -> dict[str, Tensor]:
    none_icons, none_clothes = [-1] * len(corpus.icons), [-1] * len(corpus.clothes)
    concepts = [corpus.emoji.concept(i) for i in range(len(corpus.emoji))]
    groups = [captions.groups.index(concept["group"]) for concept in concepts]
    subgroups = [captions.subgroups.index(subgroup(concept)) for concept in concepts]
    clothes = [captions.clothes.index(row["cls"]) for row in corpus.clothes.rows]
    return {
        "groups": torch.tensor(groups + none_icons + none_clothes),
        "subgroups": torch.tensor(subgroups + none_icons + none_clothes),
        "clothes": torch.tensor([-1] * len(concepts) + none_icons + clothes),
    }


def _strip(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
