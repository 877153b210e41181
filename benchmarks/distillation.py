"""The share of its teacher's kNN that a student of a quarter of the cost reaches, and the time.

The teacher is the encoder that ships, which sees 48 pixels; the student is `resnet-tiny/imagenet`
at 56 with `distill`'s default recipe, on the training half of emoji64 and of clothing96. kNN
classifies the test half by the training half. Where they share no class, as in emoji64, it
classifies half of each class of the test half by the other half. Cost is multiply-adds of the
exported graphs, and CPU time per picture, measured alternately. The CPU seconds include everything:
the teacher's embeddings, decoding, training. Bar: at least 90 % of the teacher's kNN, at most a
quarter of its cost, in at most 20 CPU minutes.

    TWINLENS_DATA=DATA python benchmarks/distillation.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import torch
from report import Report

from twinlens.bundle.encoder import Encoder, open_bundle
from twinlens.training.data.sources import open_source
from twinlens.training.evaluation.embeddings import BundleEmbedder, EmbeddingSet, embed_source
from twinlens.training.evaluation.knn import knn_accuracy
from twinlens.training.evaluation.report import halve
from twinlens.training.export import SourceOptions, export_encoder, load_source
from twinlens.training.loop.loop import train
from twinlens.training.progress import Silent
from twinlens.training.recipes import open_recipe
from twinlens.training.runs.starting import apply_pairs

TEACHER = "builtin"
DATA = {"clothing96": 60, "emoji64": 24}  # and epochs
STUDENT = ["encoder=resnet-tiny/imagenet", "image_size=56"]
KEPT, COST, LIMIT = 0.9, 0.25, 1200.0  # shares of the teacher's; CPU seconds
HALVES = ("train", "test")
TURNS, PICTURES = 15, 64  # of the timing


def main() -> None:
    """Distil on each data set, and print a line for each and the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=",".join(DATA))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=0, help="0: as the table has them")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if "TWINLENS_DATA" not in os.environ:
        sys.exit("set TWINLENS_DATA to the folder that has emoji64 and clothing96")
    torch.set_num_threads(1)
    report = Report("distillation")
    for name in arguments.data.split(","):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["TWINLENS_CACHE"] = f"{folder}/cache"
            data = Path(os.environ["TWINLENS_DATA"]) / name
            row = distil(data, Path(folder), arguments.epochs or DATA[name], arguments.seed)
        print(name, row, flush=True)
        report.row(data=name, **row)
        kept, cost = row["student"] / row["teacher"], row["multiply_adds"]
        report.bar(f"{name}_kept", kept, KEPT, kept >= KEPT)
        report.bar(f"{name}_cost", cost, COST, cost <= COST)
        report.bar(f"{name}_cpu_seconds", row["seconds"], LIMIT, row["seconds"] <= LIMIT)
    report.finish(arguments.json)


def distil(data: Path, work: Path, epochs: int, seed: int) -> dict[str, float]:
    """Train, export and evaluate a student."""
    run = [f"epochs={epochs}", f"seed={seed}", "threads=1", "device=cpu", "doctor=false"]
    pairs = [f"teachers={TEACHER}", *STUDENT, *run]
    config = apply_pairs(open_recipe("distill", "default"), pairs)
    teacher = open_bundle(TEACHER, threads=1)
    kept = knn(teacher, data)  # first: data that cannot be judged end here
    began = time.process_time()
    train(config, str(data / "train.zip"), work / "run")
    seconds = time.process_time() - began
    source = load_source(str(work / "run"), SourceOptions())
    export_encoder(source, work / "student", precisions=("fp32",))
    student = open_bundle(work / "student", threads=1)
    return {
        "teacher": kept,
        "student": knn(student, data),
        "seconds": round(seconds),
        "multiply_adds": round(count_products(student) / count_products(teacher), 3),
        "time": round(compare_times(teacher, student), 3),
        "epochs": epochs,
    }


def knn(encoder: Encoder, data: Path) -> float:
    """Return the kNN accuracy of the test half by the training half, or within it, in per cent."""
    bank, asked = (data / f"{part}.zip" for part in HALVES)
    if list_classes(bank) & list_classes(asked):
        parts = embed(encoder, bank), embed(encoder, asked)
    else:
        parts = halve(embed(encoder, asked))
    number = {label: n for n, label in enumerate(sorted(list_classes(bank) | list_classes(asked)))}
    rows, labels = [], []
    for part in parts:
        kept = [place for place, record in enumerate(part.records) if record.label]
        rows.append(part.rows[kept])
        labels.append(torch.tensor([number[part.records[place].label or ""] for place in kept]))
    return round(100 * knn_accuracy(rows[0], labels[0], rows[1], labels[1]), 1)


def list_classes(where: Path) -> set[str]:
    """Return the classes of the pictures of a source."""
    return {record.label for record in open_source(str(where)).records if record.label}


def embed(encoder: Encoder, where: Path) -> EmbeddingSet:
    """Return the embeddings of a source."""
    return embed_source(BundleEmbedder(encoder), str(where), 0, Silent())


def count_products(encoder: Encoder) -> int:
    """Return the multiply-adds of the image tower's convolutions and matrix products."""
    assert encoder.manifest.image is not None
    model = onnx.load(str(encoder.folder / encoder.manifest.image.file))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        item.name: [dim.dim_value for dim in item.type.tensor_type.shape.dim]
        for item in [*graph.value_info, *graph.input, *graph.output]
    }
    shapes |= {item.name: list(item.dims) for item in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            total += int(np.prod(shapes[node.output[0]])) * int(np.prod(shapes[node.input[1]][1:]))
        elif node.op_type in ("Gemm", "MatMul"):
            total += int(np.prod(shapes[node.input[1]])) * int(np.prod(shapes[node.input[0]][:-1]))
    return total


def compare_times(teacher: Encoder, student: Encoder) -> float:
    """Return the student's CPU time per picture over the teacher's: medians, alternating."""
    taken: dict[str, list[float]] = {"teacher": [], "student": []}
    for _ in range(TURNS):
        for name, encoder in (("teacher", teacher), ("student", student)):
            spec = encoder.manifest.image
            assert spec is not None
            pixels = np.zeros((PICTURES, spec.height, spec.width, 3), np.uint8)
            began = time.process_time()
            encoder.encode_pixels(pixels)
            taken[name].append(time.process_time() - began)
    return statistics.median(taken["student"]) / statistics.median(taken["teacher"])


if __name__ == "__main__":
    main()
