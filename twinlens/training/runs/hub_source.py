"""`init=hf:OWNER/NAME` or `hf:FOLDER`: a transformers model's files, as settings and as weights.

Preprocessing and tokenizer are read by the code that pulls ready models, so a run sees pictures and
texts as the served model does. What must stay true: weights are read only from safetensors, no code
of a repository runs, and transformers is not needed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from twinlens.bundle.pull.bundle_cache import open_repositories
from twinlens.bundle.pull.image_rules import read_processor
from twinlens.bundle.pull.repository import FolderRepository, Repository
from twinlens.bundle.pull.source import parse_source
from twinlens.bundle.pull.text_rules import TOKENIZER_FILE, TokenizerFiles, read_tokenizer
from twinlens.cache import find_cache
from twinlens.errors import InputError, NotFoundError
from twinlens.training.encoders.hub_model import PAIRS, HubArchitecture, read_architecture

PREFIX = "hf:"
_PROCESSOR = "preprocessor_config.json"
_SMALL = ("config.json", _PROCESSOR, TOKENIZER_FILE, "tokenizer_config.json")


def read_hub_settings(source: str, *, texts: bool) -> dict[str, Any]:
    """Return the settings of a model: architecture, preprocessing and, if asked, tokenizer."""
    files = _read_small(source)
    shape = read_architecture(files["config.json"], source)
    spec = read_processor(files[_PROCESSOR], _PROCESSOR)
    if spec.height != spec.width:
        raise InputError(
            f"init {source!r} does not take square images, which training uses", field="init"
        )
    fields: dict[str, Any] = {
        "init": source,
        "encoder": source,
        "architecture": shape.to_text(),
        "pretrained": False,
        "image_size": spec.height,
        "mean": spec.mean,
        "std": spec.std,
        "resize": spec.resize,
        "resize_to": spec.resize_to,
        "interpolation": spec.interpolation,
        "convert": spec.convert,
        "crop_rounding": spec.crop,
    }
    if texts and shape.kind in PAIRS:
        fields |= _read_texts(source, shape, files)
    return fields


def read_hub_weights(source: str) -> Mapping[str, Tensor]:
    """Return all weights of a model."""
    origin = _open(source)
    names = sorted(name for name in origin.files if name.endswith(".safetensors"))
    names = [name for name in names if "/" not in name]
    if not names:
        raise InputError(
            f"init {source!r} holds no .safetensors file; save the model with transformers'"
            " save_pretrained",
            field="init",
        )
    folder = origin.fetch(names)
    found: dict[str, Tensor] = {}
    for name in names:
        try:
            found |= load_file(folder / name)
        except (OSError, SafetensorError) as error:
            raise InputError(f"init {source!r}: {name} cannot be read: {error}") from None
    return {name: value.float() for name, value in found.items()}


def _read_texts(
    source: str, shape: HubArchitecture, files: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    if not files[TOKENIZER_FILE]:
        raise NotFoundError(
            f"init {source!r} has no {TOKENIZER_FILE}; save its tokenizer with transformers'"
            " save_pretrained",
            field="init",
        )
    described = TokenizerFiles(
        files[TOKENIZER_FILE], files["tokenizer_config.json"], files["config.json"], {}
    )
    length = int(shape.text["max_position_embeddings"]) if shape.kind == "siglip" else 0
    tokenizer = read_tokenizer(described, length)
    mark = hashlib.sha256(tokenizer.content).hexdigest()[:16]
    path = find_cache() / "tokenizers" / f"{mark}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".part")
        beside.write_bytes(tokenizer.content)
        beside.replace(path)
    return {
        "text_encoder": source,
        "tokenizer": str(path),
        "context": tokenizer.context_length,
        "pad_id": tokenizer.pad_id,
    }


def _read_small(source: str) -> dict[str, dict[str, Any]]:
    """Return the JSON files that describe a model; missing ones are empty."""
    origin = _open(source)
    for name in ("config.json", _PROCESSOR):
        if name not in origin.files:
            raise NotFoundError(f"init {source!r} has no {name}", field="init")
    present = [name for name in _SMALL if name in origin.files]
    folder = origin.fetch(present)
    read = {name: json.loads((folder / name).read_text(encoding="utf-8")) for name in present}
    return {name: read.get(name, {}) for name in _SMALL}


def _open(source: str) -> Repository:
    """Return the repository that `hf:...` names: an existing folder, or a hub's repository."""
    rest = source.removeprefix(PREFIX)
    if Path(rest).is_dir():
        return FolderRepository(Path(rest))
    if rest.startswith((".", "/", "~")):
        raise NotFoundError(f"init {source!r}: {rest} is not a folder", field="init")
    found = parse_source(source)
    if found is None or len(found.places) != 1:
        raise InputError(f"init {source!r} names two repositories; give one", field="init")
    (origin,) = open_repositories(found)
    return origin
