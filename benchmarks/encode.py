"""An exported ViT-B-32 (random weights) beside torch eager and beside text padded to the context.

One thread, CPU seconds, all contenders alternating in one process, with the machine's own matrix
peak: a rate depends on the processor, its share of the peak much less. The bundle is exported once
and kept under `build/benchmarks`. The tokenizer's bar is measured here too, by the code of its own
script.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from peak import count_operations, find_peaks, peak_calls
from report import Report, parse_arguments, time_interleaved
from tokenizer import measure_speed, open_ours

import twinlens
from twinlens.bundle.encoder import Encoder
from twinlens.training.export import SourceOptions, export_encoder, load_source
from twinlens.training.export.gate import open_graph
from twinlens.training.export.graphs import save_graphs, trace
from twinlens.training.export.wrappers import TokenFace

ARCH = "ViT-B-32"
KEPT = Path(__file__).resolve().parent.parent / "build" / "benchmarks" / f"{ARCH}-random"
PADDED = KEPT.with_name(f"{ARCH}-padded") / "text.onnx"
IMAGES, TEXTS, TOKENS = 8, 32, 11


def main() -> None:
    """Export if necessary, measure, report."""
    arguments = parse_arguments(__doc__)
    torch.set_num_threads(1)
    model = build_model()
    export_once(model)
    report = Report("encode")
    rounds = 4 if arguments.quick else 15
    measure_towers(report, model, rounds)
    reference = open_clip.tokenizer.SimpleTokenizer()
    measure_speed(report, reference, open_ours(reference), rounds)
    report.finish(arguments.json)


def build_model() -> Any:
    """Return the model that `--random-weights --seed 0` exports."""
    source = load_source(f"open_clip:{ARCH}", SourceOptions(random_weights=True))
    assert source.image is not None
    return source.image.module.model


def export_once(model: Any) -> None:
    """Write the bundle, and the padded text tower that represents a plain export."""
    if not KEPT.exists():
        print(f"exporting {ARCH} to {KEPT} (once, about a minute)", flush=True)
        source = load_source(f"open_clip:{ARCH}", SourceOptions(random_weights=True))
        export_encoder(source, KEPT, precisions=("int8",), attention=False)
    if not PADDED.exists():
        PADDED.parent.mkdir(parents=True, exist_ok=True)
        face = TokenFace(copy.deepcopy(PlainText(model)))
        tokens = torch.from_numpy(make_tokens(padded=True)[:2])
        graph = trace(face, tokens, ("tokens", "embedding"), {0: "n"})
        save_graphs({PADDED: graph}, PADDED.with_suffix(".data"))


class PlainText(torch.nn.Module):
    """The text tower as open_clip runs it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return what `encode_text` returns."""
        rows: torch.Tensor = self.model.encode_text(tokens)
        return rows


def make_tokens(*, padded: bool) -> NDArray[np.int64]:
    """Return prompts of eleven tokens, unpadded or padded to the context."""
    rng = np.random.default_rng(0)
    tokens = np.zeros((TEXTS, 77), np.int64)
    tokens[:, 0], tokens[:, TOKENS - 1] = 49406, 49407
    tokens[:, 1 : TOKENS - 1] = rng.integers(1, 49000, (TEXTS, TOKENS - 2))
    return tokens if padded else tokens[:, :TOKENS]


def measure_towers(report: Report, model: Any, rounds: int) -> None:
    """Time both towers against their contenders."""
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 224, 224, 3), dtype=np.uint8)
    floats = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255.0
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    floats = ((floats - mean) / std).contiguous()
    cut = make_tokens(padded=False).tolist()
    plain = open_graph(PADDED, threads=1)
    fp32, int8 = (open_encoder(precision) for precision in ("fp32", "int8"))

    def encode_in_torch() -> NDArray[Any]:
        with torch.inference_mode():
            rows: NDArray[Any] = model.encode_image(floats, normalize=True).numpy()
            return rows

    calls: dict[str, Callable[[], NDArray[Any]]] = {
        "image: torch eager": encode_in_torch,
        "image: bundle fp32": lambda: fp32.encode_pixels(pixels),
        "image: bundle int8": lambda: int8.encode_pixels(pixels),
        "text: padded to 77": lambda: plain.run(None, {"tokens": make_tokens(padded=True)})[0],
        "text: bundle fp32, cut": lambda: fp32.encode_tokens(cut),
        "text: bundle int8, cut": lambda: int8.encode_tokens(cut),
    }
    times = time_interleaved({**calls, **peak_calls(("fp32", "int8"))}, rounds)
    peaks = find_peaks(times)
    operations = count_operations(encode_in_torch) / IMAGES
    rows = {name: call() for name, call in calls.items()}
    for precision, peak in peaks.items():
        report.row(contender=f"peak: {precision} product", gflops=peak / 1e9)
    for name in calls:
        seconds = times[name]
        gflops = IMAGES * operations / seconds / 1e9 if name.startswith("image") else ""
        first = next(other for other in calls if other.split(":")[0] == name.split(":")[0])
        count = len(rows[name])
        cosines = (rows[name].astype(np.float64) * rows[first]).sum(1)
        report.row(
            contender=name,
            batch=count,
            items_a_second=count / seconds,
            ratio=times[first] / seconds,
            max_difference=float(np.abs(rows[name] - rows[first]).max()),
            cosine=float(cosines.min()),
            gflops=gflops,
        )
    add_bars(report, times, rows)
    for precision, least in (("fp32", 0.80), ("int8", 0.45)):
        share = IMAGES * operations / times[f"image: bundle {precision}"] / peaks[precision]
        report.bar(f"image_{precision}_share_of_peak", share, least, share >= least)


def add_bars(report: Report, times: dict[str, float], rows: dict[str, NDArray[Any]]) -> None:
    """Add the towers' bars."""
    text = times["text: padded to 77"] / times["text: bundle fp32, cut"]
    image = times["image: torch eager"] / times["image: bundle fp32"]
    int8 = times["image: bundle fp32"] / times["image: bundle int8"]
    gap = float(np.abs(rows["text: padded to 77"] - rows["text: bundle fp32, cut"]).max())
    report.bar("text_fp32_over_padded", text, 7.0, text >= 7.0)
    report.bar("text_max_difference", gap, 1e-6, gap <= 1e-6)
    report.bar("image_fp32_over_torch", image, 2.0, image >= 2.0)
    report.bar("image_int8_over_fp32", int8, 2.5, int8 >= 2.5)


def open_encoder(precision: str) -> Encoder:
    """Open the exported bundle on one thread."""
    return twinlens.open_bundle(
        str(KEPT), precision=precision, device="cpu", threads=1, engine="onnxruntime", verify=False
    )


MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


if __name__ == "__main__":
    main()
