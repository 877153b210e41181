"""`python -m recipes.builtin.domain [DATA]`: add the builtin's card and domain sign.

References are pictures that the encoder was trained on; limits and false alarms each come from half
of the test split. What must stay true: neither changes the revision.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import twinlens.bundle
from recipes.builtin.corpus import Corpus, find_data, read_corpus
from recipes.builtin.packaging import NAME
from recipes.builtin.towers import IMAGE_SIZE
from recipes.builtin.words import LANGUAGES
from twinlens.bundle.arrays import Pixels
from twinlens.bundle.domain import domain_sign
from twinlens.bundle.domain.domain_sign import DomainSign
from twinlens.bundle.domain.learning import PixelEncoder, learn_sign
from twinlens.bundle.encoder import open_bundle
from twinlens.bundle.model_card import EXTENSION, ModelCard
from twinlens.bundle.store import write_extensions
from twinlens.cli.terminal import print_error, print_json
from twinlens.errors import TwinlensError

CARD = ModelCard(
    domain="drawings: emoji and icons; and photographs of clothes",
    good_for=(
        "emoji, icons and flat drawings, by words in eleven languages",
        "photographs of single pieces of clothing",
        "trying Twinlens offline",
    ),
    not_for=(
        "photographs of anything but clothes",
        "counting, positions and negation",
        "decisions about people",
    ),
    languages=LANGUAGES,
    licence="Apache-2.0; trained on the artwork that NOTICE names",
    training_data=(
        "9,444 emoji in eight styles, 12,697 icons of twelve families, 3,571 photographs of clothes"
        " and 732 shapes drawn by code; docs/builtin.md"
    ),
)


def describe(encoder: PixelEncoder, folder: Path) -> dict[str, Any]:
    """Return the extensions of the builtin: its card, and its sign learned from the data."""
    sign = learn(encoder, *(read_corpus(folder, split, side=IMAGE_SIZE) for split in SPLITS))
    return {EXTENSION: CARD.to_extension(), domain_sign.EXTENSION: sign.to_extension()}


SPLITS = ("train", "test")


def learn(encoder: PixelEncoder, train: Corpus, test: Corpus) -> DomainSign:
    """Return the domain sign of the three sets."""
    halves = {name: halve(pixels) for name, pixels in _groups(test).items()}
    limiting, measuring = ({name: two[i] for name, two in halves.items()} for i in range(2))
    return learn_sign(encoder, _groups(train), limiting, measuring)


def halve(pixels: Pixels) -> tuple[Pixels, Pixels]:
    """Return two random halves, the same at every call."""
    order = np.random.default_rng(0).permutation(len(pixels))
    return pixels[order[::2]], pixels[order[1::2]]


def _groups(corpus: Corpus) -> Mapping[str, Pixels]:
    return {
        "emoji": corpus.emoji.pixels,
        "icons": corpus.icons.pixels,
        "clothes": corpus.clothes.pixels,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser("python -m recipes.builtin.domain", description=__doc__)
    parser.add_argument("data", metavar="DATA", type=Path, nargs="?", help="folder of the data")
    home = Path(twinlens.bundle.__file__).parent / NAME
    parser.add_argument("--out", type=Path, default=home, help="the bundle to describe")
    options = parser.parse_args(arguments)
    try:
        found = describe(open_bundle(options.out), options.data or find_data())
        write_extensions(options.out, found)
    except TwinlensError as error:
        print_error(error.message)
        return 2
    print_json(found[domain_sign.EXTENSION]["false_alarms"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
