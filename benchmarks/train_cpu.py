"""What each method reaches on two CPU cores: kNN over the same network untrained, effective rank.

    python benchmarks/train_cpu.py [--quick] [--methods simclr,byol] [--budget 1200] --json FILE
    python benchmarks/train_cpu.py --methods all --data emoji64 --pictures 8000 --budget 40

Trains the default recipe on CIFAR-10 (JPEG) under $TWINLENS_DATA/cifar10_jpeg for `budget` CPU
seconds per method (1200 = ten minutes of two cores, in CPU time since machines are shared). The
untrained network has calibrated BatchNorm statistics (lr 0), which is the stronger baseline.
`--data emoji64` trains on emoji, and evaluates by their group; `--pictures` subsamples a set, so
that small budgets are not spent on decoding; a small budget also shortens the warmup, to a fifth.
Captions are the emoji's label, or the class in templates. The two-tower methods, whose recipes have
a larger encoder, get the network and the size of the others here, so that rows are comparable.

Rank is measured in two ways. `rank` counts directions by their singular values, and is highest for
noise. `signal_rank` counts them by how much more images differ than views of one image do.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import zipfile
from pathlib import Path

from report import Report
from worlds.pictures import SETS, cut_set

from twinlens.training.config import Config, apply_sets
from twinlens.training.evaluation.report import evaluate_encoder
from twinlens.training.evaluation.signal import embed_views, signal_rank
from twinlens.training.loop.loop import train
from twinlens.training.nn.visual_tokenizer import FILE
from twinlens.training.objectives import METHODS as ALL
from twinlens.training.objectives import find_method
from twinlens.training.progress import open_display
from twinlens.training.recipes import open_recipe
from twinlens.training.runs.run import open_run

METHODS = "simclr,moco,mocov3,byol,dino,supcon"
SETTLING, TIMED = 12, 12  # steps
GAIN = 20.0  # points of kNN that SimCLR must gain
TWO_TOWERS = ["encoder=resnet-tiny", "image_size=32"]
IMAGES, VIEWS = 1000, 8  # for the signal rank


def main() -> None:
    """Train and evaluate each method; print the table."""
    arguments = parse()
    folder = os.environ.get("TWINLENS_DATA")
    if folder is None:
        print("skipped: TWINLENS_DATA is not set, and CIFAR-10 (JPEG) is not part of the project")
        return
    report = Report("train_cpu")
    with tempfile.TemporaryDirectory() as cut:
        data = find_halves(Path(folder), Path(cut), arguments)
        for method in choose_methods(arguments):
            with tempfile.TemporaryDirectory() as work:
                measure(report, method, data, (arguments.runs or Path(work)) / method, arguments)
            print(json.dumps(report.rows[-1]), flush=True)
    report.finish(arguments.json)


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute of CPU time per method")
    parser.add_argument("--methods", default=METHODS, help="or `all`")
    parser.add_argument("--data", choices=SETS, default=SETS[1])
    parser.add_argument("--pictures", type=int, default=0, help="training pictures; 0 = all")
    parser.add_argument("--budget", type=float, default=0.0, help="CPU seconds per method")
    parser.add_argument("--bank", type=int, default=0, help="images in the bank of kNN; 0 = all")
    parser.add_argument("--precision", default="fp32", help="bf16 where the CPU has AVX512-BF16")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="folder for the runs")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    arguments.budget = arguments.budget or (60.0 if arguments.quick else 1200.0)
    arguments.bank = arguments.bank or (5000 if arguments.quick else 0)
    return arguments


def choose_methods(arguments: argparse.Namespace) -> list[str]:
    """Return the methods to run."""
    return list(ALL if arguments.methods == "all" else arguments.methods.split(","))


def find_halves(folder: Path, cut: Path, arguments: argparse.Namespace) -> Path:
    """Return the folder of `train.zip` and `test.zip`, subsampled if requested.

    emoji64 is always rewritten: its own labels are concepts, which its halves do not share. So is a
    set without captions, if a method needs them.
    """
    worded = any("captions" in find_method(name).needs for name in choose_methods(arguments))
    if not (arguments.pictures or worded or arguments.data == "emoji64"):
        return folder / str(arguments.data)
    train_count = arguments.pictures or 10**9
    return cut_set(folder, arguments.data, cut, train=train_count, test=min(train_count, 2000))


def count_pictures(half: Path) -> int:
    """Return how many pictures a half holds."""
    with zipfile.ZipFile(half) as archive:
        return len(archive.read("index.jsonl").splitlines())


def borrow_tokenizer(config: Config, data: Path, work: Path) -> Config:
    """Return BEiT's configuration with a tokenizer that is trained once, outside the budget."""
    train(apply_sets(config, ["steps=1"]), str(data / "train.zip"), work / "tokenizer")
    return apply_sets(config, [f"tokenizer={work / 'tokenizer' / FILE}"])


def measure(
    report: Report, method: str, data: Path, work: Path, arguments: argparse.Namespace
) -> None:
    """Add the row of one method."""
    config = apply_sets(
        open_recipe(method, "default"),
        ["stored_size=32", "device=cpu", f"precision={arguments.precision}"],
    )
    if "captions" in config.objective.needs:
        config = apply_sets(config, TWO_TOWERS)
    began = time.process_time()
    if method == "beit":
        config = borrow_tokenizer(config, data, work)
    seconds = time_steps(config, data, work)
    settled = apply_sets(config, ["lr=0", "weight_decay=0", f"steps={SETTLING}"])
    before = judge(settled, data, work / "untrained", arguments.bank)
    steps = max(TIMED, round(arguments.budget / seconds))
    warmup = min(config.settings.warmup, steps // 5)
    trained = apply_sets(config, [f"steps={steps}", f"warmup={warmup}"])
    after = judge(trained, data, work / "trained", arguments.bank)
    batch = config.settings.batch
    gain = float(after["knn"]) - float(before["knn"])
    report.row(
        method=method,
        data=arguments.data,
        steps=steps,
        epochs=round(steps * batch / count_pictures(data / "train.zip"), 2),
        images_per_cpu_second=round(batch / seconds, 1),
        knn_untrained=before["knn"],
        knn=after["knn"],
        gain=round(gain, 2),
        linear_untrained=before["linear"],
        linear=after["linear"],
        rank_untrained=before["effective_rank"],
        rank=after["effective_rank"],
        signal_rank_untrained=before["signal_rank"],
        signal_rank=after["signal_rank"],
        cpu_seconds=round(time.process_time() - began),
    )
    if method == "simclr":
        report.bar("simclr_knn_gain", round(gain, 2), GAIN, gain >= GAIN)
        for name in ("effective_rank", "signal_rank"):
            ratio = float(after[name]) / float(before[name])
            report.bar(f"simclr_{name}_ratio", round(ratio, 3), 1.0, ratio > 1)


def time_steps(config: Config, data: Path, work: Path) -> float:
    """Return the CPU seconds of one step, without decoding and start-up."""
    found = []
    for number, steps in enumerate((1, 1, 1 + TIMED)):  # the first also pays for imports
        timed = apply_sets(config, [f"steps={steps}", "save_every=1000000"])
        began = time.process_time()
        train(timed, str(data / "test.zip"), work / f"timing-{number}")
        found.append(time.process_time() - began)
    return (found[2] - found[1]) / TIMED


def judge(config: Config, data: Path, out: Path, bank: int) -> dict[str, float | int]:
    """Train a run and return its metrics on the test half."""
    display = open_display()
    try:
        train(config, str(data / "train.zip"), out, display)
        found = evaluate_encoder(
            str(out),
            str(data / "test.zip"),
            bank=str(data / "train.zip"),
            limit=bank,
            display=display,
        )
        rows = embed_views(open_run(out), str(data / "test.zip"), images=IMAGES, views=VIEWS)
        return found | {"signal_rank": round(signal_rank(rows), 2)}
    finally:
        display.close()


if __name__ == "__main__":
    main()
