"""Lower precisions of an exported tower, each with what was measured of it.

What must stay true: a number in the manifest was measured on this export; a variant that moves an
embedding too far is dropped with a note.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Final, Literal, cast

import numpy as np
import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

from twinlens.bundle.manifest import Variant
from twinlens.training.export.gate import open_graph
from twinlens.training.export.graphs import save_graphs, trace
from twinlens.training.export.log_filter import drop_log_message
from twinlens.training.export.towers import ExportTower, Note
from twinlens.training.export.wrappers import PixelFace

Precision = Literal["fp32", "int8", "fp16", "bf16"]
TowerName = Literal["image", "text"]

PRECISIONS: Final = ("fp32", "int8", "fp16")
LEAST_COSINE: Final = 0.995
# The tracer has already folded and inferred what this would.
_ADVICE: Final = "pre-processing before quantization"
_QUANTISED: Final = ("MatMul", "Gemm")
_SECONDS: Final = 2.0  # of processor time for one speed ratio
_ROUNDS: Final = 7


def add_variants(
    tower: ExportTower, folder: Path, precisions: tuple[str, ...], note: Note
) -> list[Variant]:
    """Write the variants of `tower` beside its fp32 graph; return all that stand, fp32 first."""
    name = cast("TowerName", tower.name)
    found = [Variant(name, "fp32", tower.file, cosine=1.0, speed=1.0)]
    if "int8" in precisions:
        found += _keep(tower, folder, "int8", _write_int8(tower, folder), note)
    if "fp16" in precisions:
        found += _keep(tower, folder, "fp16", _write_fp16(tower, folder), note)
    return found


def _keep(
    tower: ExportTower, folder: Path, precision: Precision, path: Path | None, note: Note
) -> list[Variant]:
    """Measure the variant at `path`; drop it, saying why, if it moves an embedding too far."""
    if path is None:
        note(f"{tower.name}: no {precision} variant: no matrix product with constant weights")
        return []
    cosine, speed = _measure(tower, folder / tower.file, path)
    if not cosine >= LEAST_COSINE:
        note(
            f"{tower.name}: {precision} dropped: its cosine to fp32 is {cosine:.4f}, "
            f"under {LEAST_COSINE}"
        )
        path.unlink()
        _data_of(path).unlink(missing_ok=True)
        return []
    note(f"{tower.name}: {precision} has cosine {cosine:.5f} to fp32 at {speed:.2f} of its speed")
    return [Variant(cast("TowerName", tower.name), precision, path.name, cosine, speed)]


def _write_int8(tower: ExportTower, folder: Path) -> Path | None:
    """Quantise weights per channel and activations as they come; None if there is nothing to."""
    source, path = folder / tower.file, _variant_path(folder / tower.file, "int8")
    with drop_log_message(_ADVICE):
        quantize_dynamic(
            source,
            path,
            op_types_to_quantize=list(_QUANTISED),
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
        )
    written = folder / f"{path.name}.data"
    graph = onnx.load(str(path), load_external_data=False)
    if not any(
        node.op_type in ("MatMulInteger", "DynamicQuantizeMatMul") for node in graph.graph.node
    ):
        path.unlink()
        written.unlink(missing_ok=True)
        return None
    _rename_data(graph, written, path)
    return path


def _rename_data(graph: onnx.ModelProto, written: Path, path: Path) -> None:
    """Let the graph find its weights under the bundle's own naming."""
    if not written.exists():
        return
    written.rename(_data_of(path))
    _data_of(path).chmod(0o644)  # the quantiser writes it for its own user only
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = _data_of(path).name
    path.write_bytes(graph.SerializeToString())


def _write_fp16(tower: ExportTower, folder: Path) -> Path:
    """Trace the tower again in half precision; its inputs and outputs stay as they are."""
    face = copy.deepcopy(tower.face)
    face.tower = cast("torch.nn.Module", face.tower).half()
    if isinstance(face, PixelFace):
        face.dtype = torch.float16
    path = _variant_path(folder / tower.file, "fp16")
    graph = trace(face, tower.example, (tower.input_name, "embedding"), tower.dims)
    save_graphs({path: graph}, _data_of(path))
    return path


def _measure(tower: ExportTower, plain: Path, variant: Path) -> tuple[float, float]:
    """Return the variant's smallest cosine to fp32, and its speed as a ratio to it.

    One thread, processor seconds, the two in turn: other work on the machine cancels out.
    """
    sessions = [open_graph(path, threads=1) for path in (plain, variant)]
    feed = tower.feed(0, len(tower.reference))
    exact, reduced = (session.run(None, feed)[0].astype(np.float64) for session in sessions)
    cosines = (exact * reduced).sum(1) / np.linalg.norm(reduced, axis=1)
    best = [float("inf"), float("inf")]
    begun = time.process_time()
    for _ in range(_ROUNDS):
        for i, session in enumerate(sessions):
            started = time.process_time()
            session.run(None, feed)
            best[i] = min(best[i], time.process_time() - started)
        if time.process_time() - begun > _SECONDS:
            break
    return round(float(cosines.min()), 6), round(best[0] / best[1], 3)


def _variant_path(path: Path, precision: str) -> Path:
    return path.with_name(f"{path.stem}.{precision}.onnx")


def _data_of(path: Path) -> Path:
    return path.with_suffix(".data")
