"""From the data to the encoder that ships.

Train with a style held out, measure; train with all styles, measure, export. What must stay true:
both measurements are kept separately in the run and in the bundle: only the first measures the
encoder on an unseen style, the second is of the shipped encoder.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from recipes.builtin.align_languages import POLISHED, align_languages
from recipes.builtin.corpus import read_corpus
from recipes.builtin.domain import describe
from recipes.builtin.evaluation import evaluate
from recipes.builtin.packaging import PackagedEncoder
from recipes.builtin.photographs.calibration import calibrate
from recipes.builtin.recipe import Recipe
from recipes.builtin.towers import IMAGE_SIZE
from recipes.builtin.trainer import Trainer
from recipes.builtin.words import read_words
from twinlens.bundle.encoder import open_bundle
from twinlens.bundle.manifest import Manifest
from twinlens.bundle.store import write_extensions
from twinlens.training.config import set_keys
from twinlens.training.export import export_encoder
from twinlens.training.progress import Display

HELD_OUT, FINAL = "held_out.json", "evaluation.json"


def set_recipe(pairs: Sequence[str]) -> Recipe:
    """Return the recipe with `key=value` pairs applied."""
    recipe = set_keys(Recipe(), pairs, "recipe builtin")
    held_out = tuple(style for style in recipe.held_out if style)  # `held_out=` holds none out
    return dataclasses.replace(recipe, held_out=held_out)


def make(folder: Path, run: Path, recipe: Recipe, out: Path, display: Display) -> Manifest:
    """Train in the folder `run` on the data of `folder`, evaluate each part, export to `out`."""
    train(folder, run, recipe, display)
    display.say("measuring the encoder that ships")
    shipped = PackagedEncoder(run)
    metrics = {"shipped": measure(shipped, folder)} | read_held_out(run)
    (run / FINAL).write_text(json.dumps(metrics, indent=1) + "\n")
    export_encoder(shipped.describe(metrics), out, precisions=("fp32",), force=True)
    display.say("learning the domain sign")
    made = write_extensions(out, describe(open_bundle(out), folder))
    display.say("learning what its cosines are worth")
    calibrate(out, folder, photographs=False)
    return made


def train(folder: Path, run: Path, recipe: Recipe, display: Display) -> None:
    """Train all parts; after the first, write the metrics on the held-out style."""
    if recipe.held_out and not (run / HELD_OUT).exists():
        corpus = read_corpus(folder, "train", without_styles=recipe.held_out)
        Trainer(corpus, run, recipe, display).run(recipe.steps)
        display.say(f"measuring on {', '.join(recipe.held_out)}, never seen so far")
        metrics = measure(PackagedEncoder(run), folder)
        (run / HELD_OUT).write_text(json.dumps(metrics, indent=1) + "\n")
    corpus = read_corpus(folder, "train")
    Trainer(corpus, run, recipe, display).run()
    if recipe.polish and not (run / POLISHED).exists():
        align_languages(run, corpus, read_words(), recipe, display)


def measure(shipped: PackagedEncoder, folder: Path) -> dict[str, float]:
    """Return every metric of the encoder."""
    train, test = (read_corpus(folder, split, side=IMAGE_SIZE) for split in ("train", "test"))
    return evaluate(shipped, train, test, read_words())


def read_held_out(run: Path) -> dict[str, dict[str, float]]:
    """Return the metrics from before the held-out style was trained on, if there are any."""
    file = run / HELD_OUT
    return {"style_held_out": json.loads(file.read_text())} if file.exists() else {}
