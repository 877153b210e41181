"""Turns the files of one or two repositories into a bundle.

What must stay true: a bundle appears only after the fitted graphs gave the embeddings that the
original files give; and nothing is left on disk when they do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twinlens.bundle.manifest import Manifest
from twinlens.bundle.pull.repository import Repository


@dataclass(frozen=True)
class PullOptions:
    """What to take from a repository, and the parts that it does not name itself."""

    precisions: tuple[str, ...] = ("fp32",)
    name: str = ""
    image_file: str = ""  # the image tower's ONNX file, as a path inside the repository
    text_file: str = ""
    pooling: str = ""  # cls, mean, last or pooler_output
    verify: bool = False  # compare with transformers, where that is installed


def write_pulled_bundle(
    repositories: Sequence[Repository], out: Path, options: PullOptions, *, force: bool = False
) -> Manifest:
    """Write the model of `repositories` (one, or one for each tower) as the bundle `out`."""
    raise NotImplementedError
