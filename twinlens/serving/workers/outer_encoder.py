"""An encoder whose towers run in another process.

What must stay true: pixels, token ids and scores are those of the whole encoder, since the same
code makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

from twinlens.bundle.encoder import Encoder
from twinlens.bundle.image.preprocessing import ImageLimits
from twinlens.bundle.manifest import Manifest
from twinlens.bundle.session import Runtime
from twinlens.bundle.tower import Tower, TowerName


@dataclass(frozen=True)
class _Elsewhere:
    """A placeholder for a tower that runs in another process."""

    precision: str

    def encode(self, items: object) -> NoReturn:
        raise RuntimeError("the towers run in the encoder process; this is a bug")


class OuterEncoder(Encoder):
    """Preprocessing, tokenizer, similarity node and attention of one bundle."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        precision: str,
        told: Mapping[str, Any],
        *,
        fast: bool,
        limits: ImageLimits,
    ) -> None:
        self._told = told  # by the encoder process: provider and engines
        runtime = Runtime("cpu", 1, "onnxruntime")
        super().__init__(folder, manifest, precision, runtime, fast=fast, limits=limits)

    @property
    def engines(self) -> dict[str, str]:
        """The engine that runs each tower in the encoder process."""
        return dict(self._told["engines"])

    @property
    def provider(self) -> str:
        """What the towers run on in the encoder process."""
        return str(self._told["provider"])

    def batch_size(self, tower: TowerName) -> int:
        """Return the batch of a tower that was measured where it runs."""
        return int(self._told["batch_sizes"][tower])

    def in_flight(self, tower: TowerName) -> int:
        """Return how many batches of a tower its device works on at once."""
        return int(self._told["in_flight"][tower])

    def _open_tower(self, tower: TowerName, precision: str) -> None:
        self._towers[tower] = cast(Tower, _Elsewhere(precision))
