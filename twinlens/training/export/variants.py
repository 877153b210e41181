"""Lower precisions of an exported tower, each with its measurements.

What must stay true: every number in the manifest was measured in this export; a variant that
changes an embedding too much is dropped with a note.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
import onnx
from numpy.typing import NDArray

from twinlens.bundle.manifest import Variant
from twinlens.training.export.graphs import save_graphs
from twinlens.training.export.half import make_half
from twinlens.training.export.int8.calibration import CalibrationPictures, draw_textures
from twinlens.training.export.int8.dynamic import write_dynamic
from twinlens.training.export.int8.static import (
    has_mostly_convolutions,
    measure_ranges,
    write_static,
)
from twinlens.training.export.measurement import Yardstick
from twinlens.training.export.towers import ExportTower, Note

Precision = Literal["fp32", "int8", "fp16", "bf16"]
TowerName = Literal["image", "text"]

PRECISIONS: Final = ("fp32", "int8", "fp16")
LEAST_COSINE: Final = 0.995
# int8 convolutions: mean over other pictures than calibration's, and the worst golden picture.
LEAST_MEAN_COSINE: Final = 0.99
LEAST_CONVOLUTION_COSINE: Final = 0.95
# How many of the first convolutions stay in fp32: with few channels, their error is largest.
PLAIN_CONVOLUTIONS: Final = (0, 3, 6)


@dataclass(frozen=True)
class Variants:
    """The accepted variants of a tower, fp32 first, and the pictures that calibrated them."""

    found: list[Variant]
    calibration: dict[str, Any] | None = None


def add_variants(
    tower: ExportTower,
    folder: Path,
    precisions: tuple[str, ...],
    note: Note,
    calibration: CalibrationPictures | None = None,
    plain_convolutions: Sequence[int] = PLAIN_CONVOLUTIONS,
) -> Variants:
    """Write the variants of `tower` beside its fp32 graph; return the accepted ones.

    `calibration` has pictures for int8 convolutions; without it drawn textures are used. The first
    number of `plain_convolutions` that preserves the embeddings is kept in fp32.
    """
    name = cast("TowerName", tower.name)
    plain = Variant(name, "fp32", tower.file, cosine=1.0, speed=1.0)
    if not {"int8", "fp16"} & set(precisions):
        return Variants([plain])
    bench = _Bench(tower, folder, Yardstick(tower, folder), note)
    found, described = [plain], None
    if "int8" in precisions:
        if tower.preprocess is not None and has_mostly_convolutions(bench.source):
            pictures = calibration or draw_textures()
            added = bench.add_convolutions(pictures, plain_convolutions)
            described = pictures.describe() if added else None
        else:
            added = bench.add_products()
        found += added
    if "fp16" in precisions:
        found += bench.add_half()
    return Variants(found, described)


@dataclass(frozen=True)
class _Bench:
    """A tower, the source of its variants and the reference to measure them against."""

    tower: ExportTower
    folder: Path
    yardstick: Yardstick
    note: Note

    @property
    def source(self) -> Path:
        """The fp32 graph."""
        return self.folder / self.tower.file

    def add_products(self) -> list[Variant]:
        """Write int8 matrix products; nothing where there are none."""
        path = _variant_path(self.source, "int8")
        if not write_dynamic(self.source, path):
            self.note(
                f"{self.tower.name}: no int8 variant: no matrix product with constant weights"
            )
            return []
        _rename_data(path)
        return self._keep("int8", path)

    def add_half(self) -> list[Variant]:
        """Write the tower in half precision; its inputs and outputs stay as they are."""
        path = _variant_path(self.source, "fp16")
        save_graphs({path: make_half(self.tower, self.source)}, _data_of(path))
        return self._keep("fp16", path)

    def add_convolutions(
        self, pictures: CalibrationPictures, numbers: Sequence[int]
    ) -> list[Variant]:
        """Write int8 convolutions, with more of the first in fp32 until embeddings hold."""
        ranges = measure_ranges(self.source, self.tower.input_name, self._read(pictures.fit))
        judges = self._read(pictures.judge)
        path = _variant_path(self.source, "int8")
        for plain in numbers:
            write_static(self.source, path, ranges, plain)
            _rename_data(path)
            session = self.yardstick.open(path)
            mean = self.yardstick.compare(session, judges)
            smallest = self.yardstick.measure_cosine(session)
            said = (
                f"with {_count_plain(plain)} in fp32 has mean cosine {mean:.4f} to fp32 on "
                f"{len(judges)} pictures ({pictures.source}), {smallest:.4f} at least on the "
                "golden ones"
            )
            if mean >= LEAST_MEAN_COSINE and smallest >= LEAST_CONVOLUTION_COSINE:
                speed = self.yardstick.measure_speed(session)
                self.note(f"{self.tower.name}: int8 {said}, at {speed:.2f} of its speed")
                return [self._describe("int8", path, smallest, speed)]
            self.note(f"{self.tower.name}: int8 {said}: too far")
        self.note(
            f"{self.tower.name}: int8 dropped: a mean cosine of {LEAST_MEAN_COSINE} and "
            f"{LEAST_CONVOLUTION_COSINE} at least are needed; --calibrate FOLDER with pictures "
            "like those that the model will see may reach it"
        )
        _remove(path)
        return []

    def _read(self, pictures: tuple[bytes, ...]) -> NDArray[Any]:
        read = cast("Callable[[bytes], NDArray[Any]]", self.tower.preprocess)
        return np.stack([read(picture) for picture in pictures])

    def _keep(self, precision: Precision, path: Path) -> list[Variant]:
        """Measure the variant at `path`; drop it if it changes an embedding too much."""
        session = self.yardstick.open(path)
        cosine = self.yardstick.measure_cosine(session)
        name = self.tower.name
        if not cosine >= LEAST_COSINE:
            self.note(
                f"{name}: {precision} dropped: its cosine to fp32 is {cosine:.4f}, "
                f"under {LEAST_COSINE}"
            )
            _remove(path)
            return []
        speed = self.yardstick.measure_speed(session)
        self.note(
            f"{name}: {precision} has cosine {cosine:.5f} to fp32 at {speed:.2f} of its speed"
        )
        return [self._describe(precision, path, cosine, speed)]

    def _describe(self, precision: Precision, path: Path, cosine: float, speed: float) -> Variant:
        return Variant(cast("TowerName", self.tower.name), precision, path.name, cosine, speed)


def _count_plain(convolutions: int) -> str:
    return f"the first {convolutions} convolutions" if convolutions else "no convolution"


def _rename_data(path: Path) -> None:
    """Rename the weight file of the quantised graph at `path` to the bundle's naming."""
    written = path.with_name(f"{path.name}.data")
    if not written.exists():
        return
    graph = onnx.load(str(path), load_external_data=False)
    written.replace(_data_of(path))
    _data_of(path).chmod(0o644)  # the quantiser makes it readable for its own user only
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = _data_of(path).name
    path.write_bytes(graph.SerializeToString())


def _remove(path: Path) -> None:
    """Remove a variant's files."""
    path.unlink()
    _data_of(path).unlink(missing_ok=True)


def _variant_path(path: Path, precision: str) -> Path:
    return path.with_name(f"{path.stem}.{precision}.onnx")


def _data_of(path: Path) -> Path:
    return path.with_suffix(".data")
