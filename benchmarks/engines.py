"""ONNX Runtime and OpenVINO on the same graphs: fp32, bf16 and int8 of the builtin and a ViT-B-32.

One thread, CPU seconds, all contenders alternating in one process. The ViT-B-32 has random weights
and is exported once, by `encode.py`. A contender that this machine or this bundle lacks is left
out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from encode import KEPT, build_model, export_once
from numpy.typing import NDArray
from report import Report, parse_arguments, time_interleaved

import twinlens
from twinlens.bundle.encoder import Encoder
from twinlens.errors import InputError

CONTENDERS = (
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("onnxruntime", "int8"),
    ("openvino", "int8"),
)
CASES = (("image", 1), ("image", 8), ("text", 1), ("text", 32))
WORDS = "a red heart on a white wall beside the old door"  # 11 tokens including start and end


def main() -> None:
    """Measure both bundles, report."""
    arguments = parse_arguments(__doc__)
    report = Report("engines")
    rounds = 5 if arguments.quick else 15
    if not KEPT.exists():
        export_once(build_model())
    for name, bundle in (("builtin", "builtin"), ("ViT-B-32", str(KEPT))):
        measure_bundle(report, name, open_all(bundle), rounds)
    report.finish(arguments.json)


def open_all(bundle: str) -> dict[str, Encoder]:
    """Return an encoder for each available contender."""
    found = {}
    for engine, precision in CONTENDERS:
        try:
            found[f"{engine} {precision}"] = twinlens.open_bundle(
                bundle, precision=precision, engine=engine, device="cpu", threads=1, verify=False
            )
        except InputError as error:
            print(f"{bundle}: no {engine} {precision}: {error.message}", flush=True)
    return found


def measure_bundle(report: Report, name: str, encoders: dict[str, Encoder], rounds: int) -> None:
    """Add a row for each contender and case, with ratios to ONNX Runtime's fp32."""
    for tower, count in CASES:
        calls = {
            contender: make_call(encoder, tower, count) for contender, encoder in encoders.items()
        }
        rows = {contender: call() for contender, call in calls.items()}
        times = time_interleaved(calls, rounds * (1 if tower == "image" and count > 1 else 3))
        first = next(iter(calls))
        for contender, seconds in times.items():
            report.row(
                bundle=name,
                tower=tower,
                batch=count,
                contender=contender,
                items_a_second=count / seconds,
                ratio=times[first] / seconds,
                cosine=f"{float((rows[contender] * rows[first]).sum(axis=1).min()):.6f}",
            )


def make_call(encoder: Encoder, tower: str, count: int) -> Callable[[], NDArray[Any]]:
    """Return a function that embeds `count` items."""
    if tower == "text":
        tokens = encoder.tokenize([f"{number} {WORDS}" for number in range(count)])
        return lambda: encoder.encode_tokens([ids[:10] + ids[-1:] for ids in tokens])
    spec = encoder.manifest.image
    assert spec is not None
    shape = (count, spec.height, spec.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return lambda: encoder.encode_pixels(pixels)


if __name__ == "__main__":
    main()
