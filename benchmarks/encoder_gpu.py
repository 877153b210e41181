"""An encoder on a GPU: its correctness, and images and texts per second by batch.

    python benchmarks/encoder_gpu.py --json FILE [--bundle PATH] [--device cuda:0]
    python benchmarks/encoder_gpu.py --dry-run --json FILE      the builtin on the CPU, some batches

Without --bundle, ViT-B-32 with random weights is exported once and kept under `build/benchmarks`.
In the same run: plain runs from host arrays, one batch at a time, and torch eager with page-locked
input, if torch supports the GPU.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from report import Report

import twinlens
from twinlens.bundle.encoder import Encoder

ARCH = "ViT-B-32"
KEPT = Path(__file__).resolve().parent.parent / "build" / "benchmarks" / f"{ARCH}-fp16"
BATCHES = (1, 8, 64, 128, 256)
TEXTS = [f"a photo of thing number {i} in a garden" for i in range(512)]
SECONDS = 0.4  # of each measurement


def main() -> None:
    """Check, then measure; known results are in the JSON at once."""
    arguments = _parse()
    dry = arguments.dry_run
    bundle = arguments.bundle or ("builtin" if dry else str(make_bundle()))
    device = "cpu" if dry else arguments.device
    report = Report("encoder_gpu (dry run)" if dry else "encoder_gpu", arguments.json)
    if dry:
        measure_precision(report, bundle, device, "fp32", BATCHES[:2])
    else:
        measure_precision(report, bundle, device, "fp16", BATCHES)
        measure_torch(report, device)
        measure_precision(report, bundle, device, "fp32", BATCHES)
    report.finish(arguments.json)


def make_bundle() -> Path:
    """Return the bundle to measure; export it if it is missing."""
    if not KEPT.exists():
        from twinlens.training.export import SourceOptions, export_encoder, load_source

        source = load_source(f"open_clip:{ARCH}", SourceOptions(random_weights=True))
        export_encoder(source, KEPT, precisions=("fp16",), attention=False)
    return KEPT


def measure_precision(
    report: Report, bundle: str, device: str, precision: str, batches: Sequence[int]
) -> None:
    """Add the rows of one precision."""
    began = time.perf_counter()
    encoder = twinlens.open_bundle(bundle, precision=precision, device=device, verify=False)
    opened = time.perf_counter() - began
    replay = encoder.check()
    least = min(c for c in (replay.image_cosine, replay.text_cosine) if c is not None)
    report.bar(f"{precision}: golden cosine", least, 0.9999, least >= 0.9999)
    began = time.perf_counter()
    encoder.warm_up()
    report.row(
        what=f"{precision}: {encoder.provider}",
        open_s=opened,
        warm_up_s=time.perf_counter() - began,
        image_batch=encoder.batch_size("image"),
        text_batch=encoder.batch_size("text"),
        captured=str(encoder._towers["image"].graph.captures),
    )
    for batch in batches:
        _measure_images(report, encoder, precision, batch)
    tokens = encoder.tokenize(TEXTS)
    rate = measure_rate(lambda: encoder.encode_tokens(tokens), len(TEXTS), 1)
    report.row(what=f"{precision}: texts", batch=encoder.batch_size("text"), one_at_a_time=rate)


def _measure_images(report: Report, encoder: Encoder, precision: str, batch: int) -> None:
    spec = encoder.manifest.image
    assert spec is not None
    rng = np.random.default_rng(0)
    items = rng.integers(0, 256, (batch, spec.height, spec.width, 3), dtype=np.uint8)
    tower = encoder._towers["image"]
    plain = tower.graph.run(["embedding"], {"pixels": items})[0]
    rows = tower.encode_batch(items)
    lanes = encoder.in_flight("image")
    report.row(
        what=f"{precision}: images",
        batch=batch,
        one_at_a_time=measure_rate(lambda: tower.encode_batch(items), batch, 1),
        in_flight=measure_rate(lambda: tower.encode_batch(items), batch, lanes),
        plain_run=measure_rate(lambda: tower.graph.run(["embedding"], {"pixels": items}), batch, 1),
        largest_difference=float(np.abs(rows - plain).max()),
    )


def measure_rate(run: Callable[[], object], items: int, threads: int) -> float:
    """Return items per second of so many threads that each repeat a call."""
    for _ in range(3):
        run()
    done = [0] * threads
    ends = time.perf_counter() + SECONDS

    def work(place: int) -> None:
        while time.perf_counter() < ends:
            run()
            done[place] += 1

    began = time.perf_counter()
    workers = [threading.Thread(target=work, args=(place,)) for place in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done) * items / (time.perf_counter() - began)


def measure_torch(report: Report, device: str) -> None:
    """Add torch eager in fp16, with page-locked input copied asynchronously."""
    try:
        import open_clip
        import torch
    except ImportError as error:
        report.row(what=f"torch eager: not here ({error})")
        return
    if not torch.cuda.is_available():
        report.row(what="torch eager: finds no GPU")
        return
    model = open_clip.create_model(ARCH).visual.half().to(device).eval()
    for batch in BATCHES:
        pinned = torch.randint(0, 256, (batch, 3, 224, 224), dtype=torch.uint8).pin_memory()

        def run(pinned: Any = pinned) -> NDArray[np.float32]:
            with torch.inference_mode():
                moved = pinned.to(device, non_blocking=True).half() / 255
                rows: NDArray[np.float32] = model(moved).float().cpu().numpy()
                return rows

        report.row(what="fp16: torch eager", batch=batch, one_at_a_time=measure_rate(run, batch, 1))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bundle", help="a bundle with fp16; default: exported once")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--dry-run", action="store_true", help="show that the script works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and bars here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
