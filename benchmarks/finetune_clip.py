"""What fine-tuning a CLIP from its file gains over the original, and over a new one.

A CLIP of a small open_clip architecture is trained here on emoji64 (images of emoji, their names as
captions) and saved in open_clip's format. From that file `clip` continues on icons64, and the same
architecture is trained on icons64 from new weights: same steps, batch, rate and views. All are
evaluated by retrieval, both ways, among the 1,608 icons of the test half, after the last step. Bar:
fine-tuning is ahead of both for each seed, by the mean of the six recalls.

    TWINLENS_DATA=DATA python benchmarks/finetune_clip.py --json finetune.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import zipfile
from pathlib import Path

import torch
from report import Report
from safetensors.torch import save_file

from twinlens.training.loop.loop import train
from twinlens.training.recipes import open_recipe
from twinlens.training.runs.logs import read_log
from twinlens.training.runs.run import open_run
from twinlens.training.runs.starting import apply_pairs

ARCH = "twinlens-small"
SHAPE = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 24, "patch_size": None},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 96, "heads": 3, "layers": 2},
}
USUAL = ["batch=128", "threads=1", "device=cpu", "doctor=false", "monitor_share=0", "epochs=1"]
RECALLS = ("image_to_text_r1", "image_to_text_r5", "text_to_image_r1", "mean_recall")


def main() -> None:
    """Pretrain, save, fine-tune, train anew; print the table and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--pretraining", type=int, default=800, help="steps on emoji64")
    parser.add_argument("--steps", type=int, default=150, help="steps on icons64")
    parser.add_argument("--quick", action="store_true", help="a few steps, to check that it runs")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.pretraining, arguments.steps = 1, 10, 5
    report = Report("finetune_clip", arguments.json)
    if "TWINLENS_DATA" not in os.environ:
        print("skipped: TWINLENS_DATA is not set, and its images are not part of the project")
        report.finish(arguments.json)
        return
    torch.set_num_threads(1)
    data = Path(os.environ["TWINLENS_DATA"])
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        register(work)
        write_captioned(data / "emoji64" / "train.zip", work / "emoji.zip")
        run = learn(work / "emoji", work / "emoji.zip", f"open_clip:{ARCH}", arguments.pretraining)
        save_as_open_clip(run, work / "clip.safetensors")
        icons = data / "icons64"
        leads = []
        for seed in range(arguments.seeds):
            found = compare(work, icons, arguments.steps, seed)
            for row in found:
                report.row(**row)
            untouched, tuned, new = (float(str(row["mean_recall"])) for row in found)
            leads.append(tuned - max(untouched, new))
    report.bar("finetuning_ahead_of_both", min(leads), 0.0, min(leads) > 0)
    report.finish(arguments.json)


def compare(work: Path, icons: Path, steps: int, seed: int) -> list[dict[str, object]]:
    """Return the metrics of each way: before fine-tuning, after it, and from new weights."""
    sources = {"tuned": f"open_clip:{ARCH}/{work / 'clip.safetensors'}", "new": f"open_clip:{ARCH}"}
    rows: list[dict[str, object]] = []
    for way, source in sources.items():
        began = time.process_time()
        held_out = [f"eval={icons / 'test.zip'}", "eval_limit=0", f"eval_every={steps}"]
        run = learn(work / f"{way}-{seed}", icons / "train.zip", source, steps, seed, held_out)
        seconds = time.process_time() - began
        start, end = (row for row in read_log(run) if "eval/mean_recall" in row)
        if way == "tuned":
            rows.append(describe("no fine-tuning", seed, start, 0, 0.0))
        words = "fine-tuned" if way == "tuned" else "from new weights"
        rows.append(describe(words, seed, end, steps, seconds))
        print(rows[-1], flush=True)
    return rows


def describe(
    way: str, seed: int, found: dict[str, float], steps: int, seconds: float
) -> dict[str, object]:
    """Return a line of the table."""
    recalls = {name: round(found[f"eval/{name}"], 1) for name in RECALLS}
    return {"way": way, "seed": seed, "steps": steps, **recalls, "cpu_s": round(seconds)}


def learn(
    run: Path, data: Path, source: str, steps: int, seed: int = 0, sets: list[str] | None = None
) -> Path:
    """Train a CLIP that starts from a source; return its run."""
    pairs = [f"init={source}", *USUAL, f"steps={steps}", f"seed={seed}", *(sets or [])]
    train(apply_pairs(open_recipe("clip", "default"), pairs), str(data), run)
    return run


def register(work: Path) -> None:
    """Tell open_clip the architecture."""
    import open_clip

    path = work / f"{ARCH}.json"
    path.write_text(json.dumps(SHAPE))
    open_clip.add_model_config(path)


def save_as_open_clip(run: Path, target: Path) -> None:
    """Write what a run serves in open_clip's own format."""
    import open_clip

    found = open_run(run)
    assert found.text_encoder is not None, "a CLIP without a text tower"
    image, text = (tower.state_dict() for tower in (found.image_encoder, found.text_encoder))
    weights = {f"visual.{name.removeprefix('model.')}": value for name, value in image.items()}
    weights |= {name.removeprefix("tower."): value for name, value in text.items()}
    weights["logit_scale"] = torch.tensor(found.learned["scale"]).log()
    model = open_clip.create_model(ARCH)
    model.load_state_dict(weights)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, target)


def write_captioned(source: Path, target: Path) -> None:
    """Copy the images; the name of an emoji is its caption."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        rows = [json.loads(line) for line in old.read("index.jsonl").decode().splitlines()]
        for row in rows:
            new.writestr(row["file"], old.read(row["file"]))
        lines = [json.dumps({"file": row["file"], "caption": row["label"]}) for row in rows]
        new.writestr("index.jsonl", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
