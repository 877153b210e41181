"""Training the builtin encoder: batches, steps, a running average of the weights, checkpoints.

A run has two parts: the first holds one style out, so that the encoder can be measured on an unseen
style; the second trains on all styles, for shipping. What must stay true: the schedule depends on
steps, never on the clock, so that a paused run, or one on a shared machine, loses nothing; a run
restarted at any step resumes from its last checkpoint with all state except the random generator's.
"""

from __future__ import annotations

import dataclasses
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from recipes.builtin.blends import blend_views
from recipes.builtin.captions import Captioner, list_texts
from recipes.builtin.corpus import Corpus, is_monochrome, is_round_flag, may_be_mirrored, subgroup
from recipes.builtin.lexicon import Lexicon
from recipes.builtin.loss import Encoded, Meaning, measure_loss
from recipes.builtin.optimizer import Optimizer, clip
from recipes.builtin.recipe import Recipe
from recipes.builtin.sampling import Sampler
from recipes.builtin.tokens import TextReader, embed_tokens, train_tokenizer
from recipes.builtin.towers import TextShape, TwoTowers
from recipes.builtin.views import Kinds, make_views
from recipes.builtin.words import read_words
from twinlens.training.progress import Display

CHECKPOINT, PROGRESS, TOKENIZER = "last.safetensors", "progress.json", "tokenizer.json"
LOG, _LOG_EVERY = "log.jsonl", 50  # steps
_AVERAGE = 0.995


@dataclass(frozen=True)
class Facts:
    """The facts about every image, as tensors (n, ...); -1 = belongs to no class of that bank."""

    pixels: Tensor
    labels: Tensor
    kinds: Kinds
    classes: dict[str, Tensor]


class Trainer:
    """One run in the folder `out`."""

    def __init__(self, corpus: Corpus, out: Path, recipe: Recipe, display: Display) -> None:
        self.recipe, self.out, self._display = recipe, out, display
        out.mkdir(parents=True, exist_ok=True)
        words = read_words()
        if not (out / TOKENIZER).exists():
            train_tokenizer(list_texts(corpus, words)).save(str(out / TOKENIZER))
        self.step, self.views = 0, 0
        self.seconds = 0.0  # CPU seconds
        _seed(recipe.seed)
        self.reader = TextReader(out / TOKENIZER)
        self.model = TwoTowers(TextShape(vocabulary=self.reader.vocabulary))
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self._optimizer = Optimizer(self.model)
        if (out / CHECKPOINT).exists():
            self._resume()
        self._rng = random.Random(recipe.seed + self.step)
        self._captions = Captioner(corpus, words, self._rng)
        self._lexicon = Lexicon(corpus, words, self._rng)
        self._mix = recipe.mix if self.step < recipe.steps else recipe.late
        self._sampler = Sampler(corpus, self._mix, self._rng)
        self._facts = gather_facts(corpus, self._captions)

    def run(self, until: int | None = None) -> None:
        """Train up to a step, by default the last; save at intervals, and at the end."""
        last = self.recipe.total if until is None else until
        saved, began = time.monotonic(), time.process_time() - self.seconds
        while self.step < last:
            terms = self.take_step()
            self.seconds = time.process_time() - began
            self._report(terms)
            if time.monotonic() - saved > self.recipe.save_every:
                self.save()
                saved = time.monotonic()
        self.save()

    def take_step(self) -> dict[str, float]:
        """Take one optimizer step; return the terms of the loss."""
        indices = self._sampler.batch()
        rows = torch.tensor(indices)
        facts, size = self._facts, self.recipe.size
        kinds = facts.kinds.pick(rows)
        partners = find_partners(facts.labels[rows], kinds.photos)
        views = make_views(facts.pixels[rows], kinds, size, partners)
        with torch.autocast("cpu", torch.bfloat16):
            encoded, meaning = self._encode(views, indices, rows)
        terms = measure_loss(encoded, meaning, self.model.scales())
        self._optimizer.clear()
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
        clip(self.model.parameters())
        self._optimizer.step(self.recipe.rate(self.step))
        self.step += 1
        self.views += len(indices)
        self._renew_average()
        return {name: value.detach().item() for name, value in terms.items()}

    def save(self) -> None:
        """Write the checkpoint atomically."""
        tensors = {f"average.{name}": value for name, value in self.average.items()}
        tensors |= {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= self._optimizer.state()
        beside = self.out / f"{CHECKPOINT}.new"
        progress = {"step": self.step, "views": self.views, "seconds": self.seconds}
        recipe = dataclasses.asdict(self.recipe)
        meta = {name: str(value) for name, value in progress.items()}
        meta["recipe"] = json.dumps(recipe)
        save_file({name: t.contiguous() for name, t in tensors.items()}, beside, metadata=meta)
        beside.replace(self.out / CHECKPOINT)
        text = json.dumps(progress | {"recipe": recipe}, indent=1) + "\n"
        (self.out / PROGRESS).write_text(text)

    def _encode(self, views: Tensor, indices: list[int], rows: Tensor) -> tuple[Encoded, Meaning]:
        """Run both towers over the views and over newly sampled texts, all texts in one pass."""
        labels = self._facts.labels
        first = {labels[i].item(): i for i in reversed(indices)}  # one English text a label
        english, others = list(first.values()), self._captions.others(indices)
        said = self._lexicon.say(indices, more=self._mix.words)
        texts = self._embed(
            [self._captions.english(i) for i in english],
            [text for _, text in others],
            said.texts,
            self._captions.bank(),
        )
        names = ("groups", "subgroups", "clothes")
        sizes = [len(getattr(self._captions, name)) for name in names]
        banks = dict(zip(names, torch.split(texts[3], sizes), strict=True))
        classes = {name: values[rows] for name, values in self._facts.classes.items()}
        blends = blend_views(views, classes, self._mix.blends)
        images = self.model.image(torch.cat([views, blends.views])).float()
        images, blended = images.split([len(rows), len(blends.views)])
        meaning = Meaning(
            images=labels[rows],
            english=labels[torch.tensor(english)],
            other=labels[torch.tensor([i for i, _ in others])],
            classes=classes,
            said=said,
            blends=blends,
        )
        return Encoded(images, texts[0], texts[1], banks, texts[2], blended), meaning

    def _embed(self, *lists: list[str]) -> tuple[Tensor, ...]:
        """Return rows for each list; all but the last list leave merges out half of the time."""
        ids: list[list[int]] = []
        for texts in lists:
            loosely = texts is not lists[-1] and self._rng.random() < 0.5
            ids += self.reader.tokenize(texts, loosely=loosely)
        rows = embed_tokens(self.model.text, ids).float()
        return torch.split(rows, [len(texts) for texts in lists])

    def _report(self, terms: dict[str, float]) -> None:
        """Show the step; at intervals log its terms."""
        loss, pace = sum(terms.values()), self.views / self.seconds
        numbers = {"loss": loss, "images/s": pace}
        self._display.advance("builtin", self.step, self.recipe.total, numbers)
        if self.step % _LOG_EVERY == 0:
            line = {"step": self.step, "views": self.views, "seconds": self.seconds, **terms}
            with (self.out / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps({k: round(v, 4) for k, v in line.items()}) + "\n")

    @torch.no_grad()
    def _renew_average(self) -> None:
        kept = min(_AVERAGE, (self.step + 1) / (self.step + 20))
        for name, value in self.model.state_dict().items():
            if value.dtype.is_floating_point:
                self.average[name].lerp_(value, 1 - kept)
            else:
                self.average[name] = value.clone()

    def _resume(self) -> None:
        tensors = load_file(self.out / CHECKPOINT)
        with safe_open(self.out / CHECKPOINT, framework="pt") as file:
            meta = file.metadata()
        self.step, self.views = int(meta["step"]), int(meta["views"])
        self.seconds = float(meta["seconds"])
        self.model.load_state_dict(_strip(tensors, "model."))
        self.average = _strip(tensors, "average.")
        self._optimizer.restore(tensors, self.step)
        _seed(self.recipe.seed + self.step)
        self.recipe.check_resumable(json.loads(meta["recipe"]), self.step)
        self._display.say(f"resuming from step {self.step}")


def find_partners(labels: Tensor, photos: Tensor) -> Tensor:
    """Return for each drawing a neighbour in the batch of the same label, or itself."""
    at = torch.arange(len(labels))
    following, preceding = (at + 1).clamp(max=len(at) - 1), (at - 1).clamp(min=0)
    partners = torch.where(labels[following] == labels, following, at)
    partners = torch.where((partners == at) & (labels[preceding] == labels), preceding, partners)
    return torch.where(photos, at, partners)


def gather_facts(corpus: Corpus, captions: Captioner) -> Facts:
    """Return the facts of a corpus, images in the order emoji, icons, clothes."""
    parts = (corpus.emoji, corpus.icons, corpus.clothes)
    names = [str(row["label"]).lower() for row in corpus.emoji.rows]
    names += [str(row["caption"]).lower() for row in corpus.icons.rows]
    names += [captions_name(row["cls"]) for row in corpus.clothes.rows]
    number = {name: i for i, name in enumerate(sorted(set(names)))}
    return Facts(
        pixels=torch.from_numpy(np.concatenate([part.pixels for part in parts])),
        labels=torch.tensor([number[name] for name in names]),
        kinds=_gather_kinds(corpus),
        classes=_gather_classes(corpus, captions),
    )


def _gather_kinds(corpus: Corpus) -> Kinds:
    """Return what views may do to each image."""
    drawn = len(corpus.emoji) + len(corpus.icons)
    photos = torch.arange(drawn + len(corpus.clothes)) >= drawn
    mono, mirrored, discs = (torch.zeros_like(photos) for _ in range(3))
    mono[:drawn] = torch.tensor(
        [is_monochrome(row) for part in (corpus.emoji, corpus.icons) for row in part.rows]
    )
    for i, row in enumerate(corpus.emoji.rows):
        concept = corpus.emoji.concept(i)
        mirrored[i], discs[i] = may_be_mirrored(concept), is_round_flag(row, concept)
    return Kinds(photos, mono, mirrored | photos, discs)


def captions_name(clothing_class: str) -> str:
    """Return the English name of a clothing class: an icon or emoji of that name means the same."""
    return read_words().clothes[clothing_class]["en"].lower()


def _gather_classes(corpus: Corpus, captions: Captioner) -> dict[str, Tensor]:
    none_icons, none_clothes = [-1] * len(corpus.icons), [-1] * len(corpus.clothes)
    concepts = [corpus.emoji.concept(i) for i in range(len(corpus.emoji))]
    groups = [captions.groups.index(concept["group"]) for concept in concepts]
    icons = [captions.icon_group(row) for row in corpus.icons.rows]
    subgroups = [captions.subgroups.index(subgroup(concept)) for concept in concepts]
    clothes = [captions.clothes.index(row["cls"]) for row in corpus.clothes.rows]
    return {
        "groups": torch.tensor(groups + icons + none_clothes),
        "subgroups": torch.tensor(subgroups + none_icons + none_clothes),
        "clothes": torch.tensor([-1] * len(concepts) + none_icons + clothes),
    }


def _strip(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
