"""The builtin encoders: speed on one core, served on the demo collection, quality on the data.

Run: `python benchmarks/builtin.py [--quick] --json FILE`. Quality needs the folder that
`TWINLENS_DATA` names (docs/builtin.md says how to lay it out) and is otherwise skipped with a
message. The server runs in its own process, on the collection that `twinlens demo` makes here:
emoji if the system has a colour font, else drawings.
"""

from __future__ import annotations

import base64
import csv
import itertools
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from drills.stage import Answer, Connection, Server, percentile, split_cpus
from numpy.typing import NDArray
from report import Report, parse_arguments, time_interleaved

import twinlens
from twinlens.bundle.encoder import Encoder
from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.demo.drawings import draw_all

sys.path.append(str(Path(__file__).resolve().parent.parent))
from recipes.builtin.photographs.evaluation import Measured

BATCHES = (1, 8, 32)
WORDS = ["red heart", "Hund", "ein Bild von einem Hund", "赤いハート", "a photo of a blue shirt"]
# Targets of the full version of this encoder, in percent.
AIMS = {
    "seen_noto_r1": 85.0,
    "unseen_noto_r5": 50.0,
    "unseen_noto_groups": 75.0,
    "fluent_3d_to_noto_r1": 85.0,
    "icons_r5": 40.0,
    "clothes_zero_shot": 72.0,
    "clothes_probe": 80.0,
}
# Targets of `builtin:photographs`, in percent.
PHOTO_AIMS = {
    "coco_caption_r1": 30.0,
    "coco_caption_r5": 60.0,
    "coco_caption_r10": 70.0,
    "coco_objects_map": 42.0,
    "everyday_kinds_map": 87.0,
    "never_taught_kinds_map": 58.0,
    "imagenet_ours_top1": 75.0,
    "imagenet_ours_top5": 89.0,
    "imagenet_openai_top1": 71.5,
    "cifar10_jpeg_top1": 55.0,
    **{f"own_names_{language}_top1": 60.0 for language in ("de", "fr", "es", "ja", "zh")},
    **{f"imagenet_names_{name}_top1": 50.0 for name in ("jp", "cn", "it")},
    "noto_r1": 95.7,
    "icons_r5": 53.6,
    "clothes_zero_shot": 74.2,
    "mixed_emoji_r1": 56.0,
    "mixed_captions_r1": 20.0,
}
MISTAKES = 15.0  # percent of photographs outside all classes that are given one
GAIN, PAIR = 1.7, ("int8", "fp32")  # times as fast, and what is compared
ANSWERED = 75.0  # percent of photographs inside them that must be answered
SERVED_MS = 20.0
DOGS = {"en": "dog", "de": "Hund", "fr": "chien", "es": "perro", "ja": "犬"}
LANGUAGE_GAP = 15.0  # points of R@1 that a language may be below English


def main() -> None:
    """Measure, print, write."""
    arguments = parse_arguments(__doc__)
    report = Report("builtin")
    encoder = twinlens.open_bundle("builtin", threads=1, engine="onnxruntime")
    measure_speed(report, encoder, rounds=5 if arguments.quick else 50)
    measure_served(report, requests=20 if arguments.quick else 300)
    data = os.environ.get("TWINLENS_DATA")
    if arguments.quick or not data:
        print("quality skipped: it needs TWINLENS_DATA and a run without --quick")
    else:
        measure_quality(report, encoder, Path(data))
        measure_photographs(report, Path(data))
    report.finish(arguments.json)


def measure_speed(report: Report, encoder: Encoder, rounds: int) -> None:
    """Add items per CPU second of both towers at several batch sizes."""
    assert encoder.manifest.image is not None
    rng, side = np.random.default_rng(0), encoder.manifest.image.height
    pixels = rng.integers(0, 256, (max(BATCHES), side, side, 3), dtype=np.uint8)
    tokens = encoder.tokenize([WORDS[i % len(WORDS)] for i in range(max(BATCHES))])
    contenders = {f"image {n}": lambda n=n: encoder.encode_pixels(pixels[:n]) for n in BATCHES}
    contenders |= {f"text {n}": lambda n=n: encoder.encode_tokens(tokens[:n]) for n in BATCHES}
    seconds = time_interleaved(contenders, rounds)
    rates = {name: int(name.split()[1]) / taken for name, taken in seconds.items()}
    for name, rate in rates.items():
        tower, batch = name.split()
        report.row(what=f"{tower}s a CPU second", batch=batch, value=rate)
    report.bar("images_per_second_batch_8", rates["image 8"], 500, rates["image 8"] >= 500)
    report.bar("texts_per_second_batch_8", rates["text 8"], 2000, rates["text 8"] >= 2000)


def measure_served(report: Report, requests: int) -> None:
    """Add the median time of a search by new words and of a picture's zero-shot, one client."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "twinlens.cli.main", "demo", "--folder", home, "--json"]
        told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        with Path(told["table"]).open(encoding="utf-8") as table:
            rows = list(csv.DictReader(table))
        source = f"{told['count']} pictures, {told['source']}"
        arguments = ("--collection", f"demo={told['collection']}", "--threads", "1")
        with Server(*arguments, cpus=split_cpus()[0]) as server, Connection(server.port) as wire:
            words = [f"{row['name']}, please" for row in rows]  # new words are not cached
            pictures = [(Path(told["folder"]) / row["path"]).read_bytes() for row in rows[:50]]
            times = {
                "/search": [search(wire, words[i % len(words)]) for i in range(requests)],
                "/zeroshot": [classify(wire, pictures[i % 50]) for i in range(requests)],
            }
            found = {word: list_first(wire, word) for word in DOGS.values()}
    for path, answers in times.items():
        assert all(answer.status == 200 for answer in answers), path
        median = 1000 * percentile([answer.seconds for answer in answers[3:]], 0.5)
        report.row(what=f"{path}, p50, ms ({source})", batch=1, value=median)
        report.bar(f"{path[1:]}_p50_ms", median, SERVED_MS, median < SERVED_MS)
    for word, names in found.items():
        report.row(what=f"{word}: the first three", batch=1, value=", ".join(names))
    if told["source"] != "drawings":
        right = sum(names[0] in ("dog", "dog face") for names in found.values())
        report.bar("words_that_find_the_dog", right, len(found), right == len(found))


def search(wire: Connection, text: str) -> Answer:
    """Return the answer to a search of the demo collection."""
    body = json.dumps({"collection": "demo", "text": text, "k": 5}).encode()
    return wire.ask("POST", "/search", body, content_type="application/json")


def list_first(wire: Connection, text: str) -> list[str]:
    """Return the names of the three pictures found first."""
    hits = json.loads(search(wire, text).body)["data"]
    return [str(hit["id"]) for hit in hits[:3]]


def classify(wire: Connection, picture: bytes) -> Answer:
    """Return the answer to a zero-shot of one picture among five classes."""
    body = json.dumps(
        {
            "images": [f"data:image/png;base64,{base64.b64encode(picture).decode()}"],
            "classes": ["dog", "red heart", "house", "car", "apple"],
        }
    ).encode()
    return wire.ask("POST", "/zeroshot", body, content_type="application/json")


def measure_quality(report: Report, encoder: Encoder, folder: Path) -> None:
    """Add every metric of the evaluation, and the targets as bars."""
    from recipes.builtin.corpus import read_corpus
    from recipes.builtin.evaluation import evaluate
    from recipes.builtin.towers import IMAGE_SIZE
    from recipes.builtin.words import read_words

    train, test = (read_corpus(folder, split, side=IMAGE_SIZE) for split in ("train", "test"))
    found = evaluate(encoder, train, test, read_words())
    for name, value in found.items():
        report.row(what=name, batch="", value=value)
    for name, aim in AIMS.items():
        report.bar(name, found[name], aim, found[name] >= aim)
    gap = found["seen_noto_r1"] - found["seen_noto_worst_language_r1"]
    report.bar("worst_language_gap", gap, LANGUAGE_GAP, gap <= LANGUAGE_GAP)


def measure_photographs(report: Report, folder: Path) -> None:
    """Add the metrics of `builtin:photographs` on photographs and drawings, with intervals."""
    from recipes.builtin.photographs.calibration import measure_doubt
    from recipes.builtin.photographs.evaluation import evaluate_photographs
    from recipes.builtin.photographs.galleries import evaluate_galleries

    encoder = twinlens.open_bundle("builtin:photographs", threads=1, engine="onnxruntime")
    measure_photo_speed(report, encoder)
    found = evaluate_photographs(encoder, folder, cifar_every=5)
    found |= evaluate_galleries(encoder, folder)
    doubted = measure_doubt(encoder, folder)
    outside, inside = doubted["outside_answered"].value, doubted["inside_answered"].value
    report.bar("outside_answered", outside, MISTAKES, outside <= MISTAKES)
    report.bar("inside_answered", inside, ANSWERED, inside >= ANSWERED)
    found |= doubted
    metrics = encoder.manifest.provenance["metrics"]
    told = {name: Measured(**value) for name, value in metrics.items()}
    for name, one in {**found, **told}.items():
        interval = f"{one.low} to {one.high}"
        report.row(what=name, batch="", value=one.value, interval=interval, of=one.count)
        if name in PHOTO_AIMS:
            report.bar(name, one.value, PHOTO_AIMS[name], one.value >= PHOTO_AIMS[name])


def measure_photo_speed(report: Report, encoder: Encoder) -> None:
    """Add pictures and texts per CPU second of the joined graphs, and what int8 gains.

    Noise takes a photograph's path; drawings skip the photographs' tower.
    """
    noise = draw_noise()
    assert encoder.manifest.image is not None
    read = Preprocessor(encoder.manifest.image)
    drawn = np.stack([read(picture.image) for picture in itertools.islice(draw_all(128), 64, 72)])
    tokens = encoder.tokenize([WORDS[i % len(WORDS)] for i in range(8)])
    seconds = time_interleaved(
        {
            "photographs": lambda: encoder.encode_pixels(noise),
            "drawings": lambda: encoder.encode_pixels(drawn),
            "texts": lambda: encoder.encode_tokens(tokens),
        },
        10,
    )
    for kind, taken in seconds.items():
        report.row(what=f"{kind} a CPU second, builtin:photographs", batch=8, value=8 / taken)
        if kind != "texts":
            report.bar(f"{kind}_per_second", 8 / taken, 60, 8 / taken >= 60)
    measure_gain(report, encoder)


def measure_gain(report: Report, encoder: Encoder) -> None:
    """Add how many times as fast as the same graph in fp32 the image graph runs."""
    from recipes.builtin.photographs.graphs.plain import write_plain
    from twinlens.training.export.gate import open_graph

    assert encoder.manifest.image is not None
    small, noise = encoder.folder / encoder.manifest.image.file, draw_noise()
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "plain.onnx")
        write_plain(small, plain)
        graphs = {
            name: open_graph(file, threads=1)
            for name, file in zip(PAIR, (small, plain), strict=True)
        }
    runs = {name: partial(graph.run, None, {"pixels": noise}) for name, graph in graphs.items()}
    seconds = time_interleaved(runs, 20)
    gain = seconds["fp32"] / seconds["int8"]
    report.bar("int8_to_fp32_speed", gain, GAIN, gain >= GAIN)


def draw_noise() -> NDArray[np.uint8]:
    """Return a batch of pictures that the encoder reads as photographs."""
    return np.random.default_rng(0).integers(0, 256, (8, 224, 224, 3), dtype=np.uint8)


if __name__ == "__main__":
    main()
