"""`python -m twinlens.training.builtin RUN`: train, evaluate and export the builtin encoder.

Stopped at any moment, the same command goes on. `--minutes 0` only evaluates and exports what the
run has so far.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from pathlib import Path

import twinlens.bundle
from twinlens.training.builtin.corpus import find_data, read_corpus
from twinlens.training.builtin.evaluation import evaluate
from twinlens.training.builtin.shipping import NAME, Shipped
from twinlens.training.builtin.towers import IMAGE_SIZE
from twinlens.training.builtin.trainer import Recipe, Trainer
from twinlens.training.builtin.words import read_words
from twinlens.training.export import export_encoder

_log = logging.getLogger("twinlens.training.builtin")
_HOME = Path(twinlens.bundle.__file__).parent / NAME


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the training run")
    parser.add_argument("--minutes", type=float, default=Recipe.minutes)
    parser.add_argument("--without-style", action="append", default=[], metavar="STYLE")
    parser.add_argument("--out", type=Path, default=_HOME, help="where the bundle goes")
    given = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("twinlens").setLevel(logging.INFO)  # the exporter of torch says too much
    folder = find_data()
    if given.minutes:
        corpus = read_corpus(folder, "train", without_styles=given.without_style)
        recipe = dataclasses.replace(Recipe(), minutes=given.minutes)
        Trainer(corpus, given.run, recipe, tell=_log.info).run()
    shipped = Shipped(given.run)
    train, test = (read_corpus(folder, split, side=IMAGE_SIZE) for split in ("train", "test"))
    metrics = evaluate(shipped, train, test, read_words())
    _log.info("%s", json.dumps(metrics, indent=1))
    manifest = export_encoder(
        shipped.describe(metrics), given.out, precisions=("fp32",), force=True
    )
    _log.info("%s: revision %s", given.out, manifest.revision)


if __name__ == "__main__":
    main()
