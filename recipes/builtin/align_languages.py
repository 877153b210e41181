"""The last part of a run: align common words in other languages with their English words.

In batches with images a rare word is drawn too seldom to converge: `Hund` is two tokens to the
tokenizer. Here the image tower and all English words are fixed. Only the text tower learns, from
all common words in all languages at each step, while captions keep their embeddings. What must stay
true: it starts from the averaged weights and leaves the checkpoint unchanged, so that it can be
repeated.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from recipes.builtin.corpus import Corpus
from recipes.builtin.recipe import Recipe
from recipes.builtin.tokens import TextReader, embed_tokens
from recipes.builtin.towers import TextShape, TextTower, TwoTowers
from recipes.builtin.trainer import CHECKPOINT, TOKENIZER
from recipes.builtin.words import OTHERS, Words
from twinlens.training.progress import Display

POLISHED = "polished.safetensors"
_WORDS_A_STEP, _CAPTIONS_A_STEP = 900, 600
_HOLD = 2.0  # weight of the captions that keep their embeddings
_LR = 5e-4


def load_averaged(run: Path, reader: TextReader) -> TwoTowers:
    """Return both towers with the running average of the weights."""
    model = TwoTowers(TextShape(vocabulary=reader.vocabulary))
    kept, tensors = "average.", load_file(run / CHECKPOINT)
    averaged = {n.removeprefix(kept): t for n, t in tensors.items() if n.startswith(kept)}
    model.load_state_dict(averaged)
    return model.eval()


def align_languages(
    run: Path, corpus: Corpus, words: Words, recipe: Recipe, display: Display
) -> None:
    """Train the text tower for `recipe.polish` steps; write both towers beside the checkpoint."""
    reader = TextReader(run / TOKENIZER)
    model, rng = load_averaged(run, reader), random.Random(recipe.seed)
    said, wanted = _list_words(model.text, reader, words)
    held = list_captions(corpus, set(said))
    places = _embed(model.text, reader, held)
    optimizer = torch.optim.AdamW(model.text.parameters(), lr=_LR, weight_decay=0.0)
    for step in range(recipe.polish):
        optimizer.param_groups[0]["lr"] = _LR * (1 - step / recipe.polish)
        moved = _draw(len(said), _WORDS_A_STEP, rng)
        kept = _draw(len(held), _CAPTIONS_A_STEP, rng)
        ids = reader.tokenize([said[i] for i in moved] + [held[i] for i in kept])
        rows = F.normalize(embed_tokens(model.text, ids), dim=-1)
        apart = 1 - (rows * torch.cat([wanted[moved], places[kept]])).sum(-1)
        words_off, captions_off = apart[: len(moved)].mean(), apart[len(moved) :].mean()
        optimizer.zero_grad()
        torch.autograd.backward(words_off + _HOLD * captions_off)
        optimizer.step()
        numbers = {"words off by": words_off.item(), "captions off by": captions_off.item()}
        display.advance("aligning languages", step + 1, recipe.polish, numbers)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    beside = run / f"{POLISHED}.new"
    save_file(tensors, beside)
    beside.replace(run / POLISHED)


def list_captions(corpus: Corpus, less: set[str]) -> list[str]:
    """Return the names of emoji and icons, in all languages, each once and none of `less`."""
    names: dict[str, None] = {}
    for concept in corpus.emoji.concepts.values():
        names |= dict.fromkeys([str(concept["label"]), *concept["labels"].values()])
        names |= dict.fromkeys(concept.get("tags") or [])
    names |= dict.fromkeys(str(row["caption"]) for row in corpus.icons.rows)
    return [name for name in names if name not in less]


def _list_words(tower: TextTower, reader: TextReader, words: Words) -> tuple[list[str], Tensor]:
    """Return every common word in every language, English too, and its target row."""
    names = list(words.keywords)
    english = _embed(tower, reader, names)
    said, wanted = list(names), [english]
    for language in OTHERS:
        said += [words.say(name, language) for name in names]
        wanted.append(english)
    return said, torch.cat(wanted)


@torch.no_grad()
def _embed(tower: TextTower, reader: TextReader, texts: Sequence[str]) -> Tensor:
    """Return unit rows of texts."""
    parts = [texts[start : start + 2048] for start in range(0, len(texts), 2048)]
    rows = torch.cat([embed_tokens(tower, reader.tokenize(part)) for part in parts])
    return F.normalize(rows, dim=-1)


def _draw(count: int, most: int, rng: random.Random) -> Tensor:
    return torch.tensor(rng.sample(range(count), min(most, count)), dtype=torch.long)
