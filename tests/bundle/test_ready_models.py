"""The catalogue of ready models."""

from __future__ import annotations

import re

import pytest

from twinlens.bundle.encoder import find_bundle
from twinlens.bundle.ready_models import (
    BUILTIN_MODEL,
    PHOTOGRAPHS_MODEL,
    READY_MODELS,
    ReadyModel,
)
from twinlens.bundle.store import read_manifest

_HUB = r"hf:[\w.-]+/[\w.-]+"


@pytest.mark.parametrize("model", READY_MODELS, ids=lambda model: model.source)
def test_every_row_is_complete_and_its_source_is_one(model: ReadyModel) -> None:
    assert re.fullmatch(rf"builtin(:photographs)?|{_HUB}(\+{_HUB})?", model.source)
    assert model.good_for and model.licence
    assert model.dimensions > 0 and model.megabytes > 0
    assert bool(model.languages) == ("text" in model.modalities)


def test_no_source_stands_twice() -> None:
    sources = [model.source for model in READY_MODELS]
    assert len(set(sources)) == len(sources)


def test_only_what_this_project_opened_is_called_tried() -> None:
    tried = [model.source for model in READY_MODELS if model.tried]
    assert tried == ["builtin", "builtin:photographs"]


@pytest.mark.parametrize("model", [BUILTIN_MODEL, PHOTOGRAPHS_MODEL], ids=lambda m: m.source)
def test_the_rows_of_what_ships_are_what_ships(model: ReadyModel) -> None:
    manifest = read_manifest(find_bundle(model.source))
    assert model.dimensions == manifest.embedding_dim
    size = sum(entry.bytes for entry in manifest.files) / 1e6
    assert abs(model.megabytes - size) < 1
    languages = manifest.extensions["card"]["languages"]
    assert model.languages == f"{len(languages)} languages"
