"""Opens bundles in the processes of a server: whole in encoder processes, without towers in others.

What must stay true: a bundle is verified by the encoder process before any other opens it, and the
others open the same revision or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twinlens.bundle.encoder import find_bundle
from twinlens.bundle.image.preprocessing import ImageLimits
from twinlens.bundle.store import verify_bundle
from twinlens.errors import BundleError
from twinlens.serving.contracts import StagedEncoder
from twinlens.serving.launch import build_opener
from twinlens.serving.settings import ServerSettings
from twinlens.serving.workers.outer_encoder import OuterEncoder


class BundleOpeners:
    """Opens bundles of the disk."""

    def __init__(
        self,
        settings: ServerSettings,
        devices: Sequence[str],
        *,
        threads: int | None = None,
        engine: str = "auto",
        fast: bool = False,
        device_memory: float | None = None,
    ) -> None:
        self.devices = devices
        self._settings = settings
        self._threads = threads
        self._engine = engine
        self._fast = fast
        self._device_memory = device_memory

    def open_whole(self, source: str, precision: str, device: str) -> StagedEncoder:
        """Open a bundle and verify it by its golden vectors."""
        opener = build_opener(
            self._settings,
            device=device,
            threads=self._threads,
            engine=self._engine,
            fast=self._fast,
            device_memory=self._device_memory,
        )
        return opener(source, precision)

    def open_outer(self, source: str, precision: str, told: Mapping[str, Any]) -> StagedEncoder:
        """Open a bundle without its towers."""
        folder = find_bundle(source, self._settings.precisions)
        manifest = verify_bundle(folder, hashes=False)
        if manifest.revision != told["revision"]:
            raise BundleError(
                f"bundle {manifest.name!r} changed on disk while the server runs: load it again "
                "with PUT /v1/models/NAME"
            )
        limits = self._settings.limits
        return OuterEncoder(
            folder,
            manifest,
            precision,
            told,
            fast=self._fast,
            limits=ImageLimits(max_bytes=limits.image_bytes, max_pixels=limits.image_pixels),
        )
