"""The parsed configurations of a found model; read once, before any weights are fetched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from twinlens.bundle.manifest import ImageSpec
from twinlens.bundle.pull.image_rules import read_open_clip, read_processor
from twinlens.bundle.pull.json_files import JsonObject, read_json, understanding
from twinlens.bundle.pull.layouts.found import TowerFiles
from twinlens.bundle.pull.repository import Repository
from twinlens.bundle.pull.text_rules import PulledTokenizer, TokenizerFiles, read_tokenizer
from twinlens.errors import BundleError

_SMALL: Final = (
    "config", "processor", "open_clip", "tokenizer", "tokenizer_config", "modules", "sentence",
    "prompts", "pooling", "card",
)  # fmt: skip
_CARD_FIELDS: Final = ("license", "base_model", "pipeline_tag", "library_name")


@dataclass(frozen=True)
class TowerConfig:
    """A repository's configurations for one tower, by kind of file; missing ones are {}."""

    repository: Repository
    paths: Mapping[str, str]
    content: Mapping[str, Any] = field(default_factory=dict)

    def get(self, kind: str) -> Any:
        """Return a parsed file, {} where it is missing."""
        return self.content.get(kind, {})

    @property
    def model_type(self) -> str:
        """The family that `config.json` names."""
        return str(self.get("config").get("model_type", ""))

    def read_image_spec(self) -> ImageSpec:
        """Return how a picture becomes pixels."""
        for kind, read in (("open_clip", read_open_clip), ("processor", read_processor)):
            if kind in self.content:
                with understanding(self.paths[kind]):
                    return read(self.get(kind), self.paths[kind])
        raise BundleError(
            f"{self.repository.source} does not say how pictures are prepared: it has no "
            "preprocessor_config.json and no preprocess_cfg.json"
        )

    def read_tokenizer(self, fixed_length: int) -> PulledTokenizer:
        """Return how a text becomes tokens."""
        if "tokenizer" not in self.content:
            raise BundleError(
                f"{self.repository.source} holds no tokenizer.json; other tokenizer formats are "
                "not supported"
            )
        config = self.get("config")
        with understanding("the description of the tokenizer"):
            return read_tokenizer(self._list_tokenizer_files(config), fixed_length)

    def _list_tokenizer_files(self, config: JsonObject) -> TokenizerFiles:
        return TokenizerFiles(
            self.get("tokenizer"),
            self.get("tokenizer_config"),
            config,
            self.get("sentence"),
            open_clip="text_cfg" in config,
        )


def read_tower_config(files: TowerFiles) -> TowerConfig:
    """Fetch and parse the small files that describe a tower."""
    paths = {kind: path for kind, path in files.described_by.items() if kind in _SMALL}
    root = files.repository.fetch(paths.values()) if paths else Path()
    content = {
        kind: _read_card(root / path) if kind == "card" else read_json(root / path)
        for kind, path in paths.items()
    }
    for kind, path in paths.items():
        expected = list if kind == "modules" else dict
        if not isinstance(content[kind], expected):
            what = "a list" if expected is list else "an object"
            raise BundleError(f"{path} does not hold {what}")
    return TowerConfig(files.repository, dict(files.described_by), content)


def _read_card(path: Path) -> dict[str, str]:
    """Return the plain fields in the front matter of a model card."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---"):
        return {}
    head = text.split("\n---", 1)[0]
    found = {}
    for name in _CARD_FIELDS:
        match = re.search(rf"^{name}:[ \t]*(?:\n[ \t]*-[ \t]*)?(\S[^\n]*)$", head, re.MULTILINE)
        if match:
            found[name] = match[1].strip().strip("\"'")
    return found
