"""What a layout finds: each tower's graphs by precision, and the files that describe them.

What must stay true: every path is in the repository's listing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from twinlens.bundle.pull.repository import Repository

# Endings of a graph's name before `.onnx`, best first; others (q4, bnb4, O2) match no precision
# of a bundle. int8 has several forms for different processors.
SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "fp32": ("",),
    "fp16": ("_fp16", "_O4"),
    "int8": (
        "_quantized", "_int8", "_uint8", "_qint8_avx512_vnni", "_qint8_avx512", "_quint8_avx2",
        "_qint8_arm64",
    ),
}  # fmt: skip

_NAMES: Final[Mapping[str, str]] = {
    "config": "config.json",
    "processor": "preprocessor_config.json",
    "open_clip": "preprocess_cfg.json",
    "tokenizer": "tokenizer.json",
    "tokenizer_config": "tokenizer_config.json",
    "modules": "modules.json",
    "sentence": "sentence_bert_config.json",
    "prompts": "config_sentence_transformers.json",
    "pooling": "1_Pooling/config.json",
    "weights": "model.safetensors",
    "card": "README.md",
}


@dataclass(frozen=True)
class TowerFiles:
    """One tower in one repository."""

    repository: Repository
    graphs: Mapping[str, str]  # precision to path
    described_by: Mapping[str, str] = field(default_factory=dict)  # kind of file to path


@dataclass(frozen=True)
class Found:
    """A model: its towers, which share their graphs if one file holds both."""

    layout: str
    image: TowerFiles | None
    text: TowerFiles | None

    @property
    def is_fused(self) -> bool:
        """Whether one graph holds both towers."""
        return (
            self.image is not None
            and self.text is not None
            and self.image.repository is self.text.repository
            and self.image.graphs == self.text.graphs
        )

    @property
    def towers(self) -> list[TowerFiles]:
        """The towers that the model has."""
        return [tower for tower in (self.image, self.text) if tower is not None]


def list_graphs(repository: Repository, stem: str) -> dict[str, str]:
    """Return the graphs called `stem`, by precision; those under `onnx/` come first."""
    graphs: dict[str, str] = {}
    for precision, suffixes in SUFFIXES.items():
        for folder in ("onnx/", ""):
            paths = [f"{folder}{stem}{suffix}.onnx" for suffix in suffixes]
            present = [path for path in paths if path in repository.files]
            if present:
                graphs.setdefault(precision, present[0])
    return graphs


def describe_tower(repository: Repository, graphs: Mapping[str, str]) -> TowerFiles:
    """Return the tower with the files that describe it: beside the graph, or in a parent folder."""
    first = next(iter(graphs.values()))
    folders = [str(folder) for folder in PurePosixPath(first).parents]
    found = {}
    for kind, name in _NAMES.items():
        paths = [name if folder == "." else f"{folder}/{name}" for folder in folders]
        present = [path for path in paths if path in repository.files]
        if present:
            found[kind] = present[0]
    return TowerFiles(repository, dict(graphs), found)


def has_file(repository: Repository, name: str) -> bool:
    """Whether the repository has a file of this name in any folder."""
    return any(PurePosixPath(path).name == name for path in repository.files)
