"""Studies: one question, a few runs that differ in one thing, a table and a plot.

What must stay true: every run of a study is an ordinary run, in the study's folder, and resumes
where it stopped.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twinlens.errors import NotFoundError
from twinlens.training.doctor.examination import examine
from twinlens.training.doctor.verdict import SICK
from twinlens.training.evaluation.embeddings import embed_source, open_embedder
from twinlens.training.evaluation.report import evaluate_encoder
from twinlens.training.evaluation.spectrum import measure_spectrum
from twinlens.training.loop.loop import NotFiniteError, train
from twinlens.training.progress import Display
from twinlens.training.ranges import check_config
from twinlens.training.recipes import open_recipe
from twinlens.training.report.charts import draw_page, draw_points
from twinlens.training.runs.checkpoints import find_checkpoint
from twinlens.training.runs.run import CHECKPOINTS
from twinlens.training.runs.starting import apply_pairs

LIMIT = 2000  # images that an encoder is evaluated on
COLUMNS = ("knn", "linear", "effective_rank", "top_eigenvalue", "top5_eigenvalues", "doctor")
TABLE, PLOT = "study.json", "study.html"

StudyRow = dict[str, float | str]


@dataclass(frozen=True)
class StudyVariant:
    """One run of a study: a method's recipe with some settings."""

    label: str
    method: str
    sets: tuple[str, ...] = ()
    recipe: str = "default"


@dataclass(frozen=True)
class Study:
    """A question and the runs that answer it."""

    question: str
    variants: tuple[StudyVariant, ...]


BUILD_IT = "cifar10_build_it"
# Encoder, optimizer and length, for other methods.
LIKE_IT = ("encoder=resnet50", "stored_size=32", "epochs=80", "batch=256", "optimizer=adamw",
           "lr=3e-4", "lr_scaling=none", "weight_decay=1e-4", "precision=bf16")  # fmt: skip
STUDIES = {
    "temperature": Study(
        "What does the temperature of SimCLR trade?",
        tuple(
            StudyVariant(f"T {t}", "simclr", (f"temperature={t}",)) for t in (0.03, 0.07, 0.2, 0.5)
        ),
    ),
    "queue": Study(
        "What does MoCo's queue add? Without one the batch's own keys are the negatives (v3).",
        (
            StudyVariant("no queue", "mocov3"),
            *(
                StudyVariant(f"queue {size}", "moco", (f"queue={size}",))
                for size in (256, 1024, 4096)
            ),
        ),
    ),
    "head": Study(
        "What does SimCLR's projection head add? The encoder below it is evaluated.",
        (
            StudyVariant("no head", "simclr", ("layers=0",)),
            StudyVariant("linear head", "simclr", ("layers=1",)),
            StudyVariant("head of two layers", "simclr"),
        ),
    ),
    "stop-gradient": Study(
        "What does SimSiam's stop-gradient add?",
        (
            StudyVariant("with stop", "simsiam"),
            StudyVariant("without stop", "simsiam", ("stop_gradient=false",)),
        ),
    ),
    "predictor": Study(
        "What does SimSiam's predictor add?",
        (
            StudyVariant("with predictor", "simsiam"),
            StudyVariant("without predictor", "simsiam", ("predictor=false",)),
        ),
    ),
    "batch": Study(
        "What does a larger batch add to SimCLR, whole and with cached gradients?",
        (
            StudyVariant("batch 64", "simclr", ("batch=64",)),
            StudyVariant("batch 256", "simclr", ("batch=256",)),
            StudyVariant("batch 256, cached by 64", "simclr", ("batch=256", "chunk=64")),
        ),
    ),
    "build-it-temperature": Study(
        "What does a sharp temperature do to SimCLR with a ResNet-50 on CIFAR-10?",
        tuple(
            StudyVariant(f"T {t}", "simclr", (f"temperature={t}",), BUILD_IT) for t in (0.03, 0.2)
        ),
    ),
    "build-it-spectrum": Study(
        "What does the spectrum lose without a head, a stop-gradient, a queue?",
        (
            StudyVariant("with head", "simclr", (), BUILD_IT),
            StudyVariant("without head", "simclr", ("layers=0",), BUILD_IT),
            StudyVariant("with stop-gradient", "simsiam", LIKE_IT),
            StudyVariant("without stop-gradient", "simsiam", (*LIKE_IT, "stop_gradient=false")),
            StudyVariant("with queue", "moco", LIKE_IT),
            StudyVariant("without queue", "mocov3", LIKE_IT),
        ),
    ),
    "build-it-batch": Study(
        "What does a batch of 512 add to SimCLR with a ResNet-50 on CIFAR-10?",
        tuple(
            StudyVariant(f"batch {size}", "simclr", (f"batch={size}",), BUILD_IT)
            for size in (256, 512)
        ),
    ),
}


def find_study(name: str) -> Study:
    """Return the study called `name`; an unknown name lists the known ones."""
    if name not in STUDIES:
        close = difflib.get_close_matches(name, STUDIES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise NotFoundError(f"study {name!r} is unknown; {hint}Known: {', '.join(STUDIES)}")
    return STUDIES[name]


def run_study(
    study: Study, where: str, out: Path, sets: Sequence[str], display: Display
) -> list[StudyRow]:
    """Train and evaluate every variant, with `sets` applied first; write table and plot."""
    configs = [
        apply_pairs(open_recipe(variant.method, variant.recipe), [*sets, *variant.sets])
        for variant in study.variants
    ]
    for config in configs:  # checks all of them before the first one trains for hours
        check_config(config)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[StudyRow] = []
    for variant, config in zip(study.variants, configs, strict=True):
        display.say(f"{variant.label}: {variant.method} {' '.join(variant.sets)}")
        run = out / variant.label.replace(" ", "-").replace(",", "")
        try:
            train(config, where, run, display)
        except NotFiniteError as error:  # an error of a variant is a result too
            display.say(str(error))
        rows.append({"run": variant.label, **judge_run(run, where, display)})
    (out / TABLE).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (out / PLOT).write_text(plot_study(study, rows), encoding="utf-8")
    return rows


def judge_run(run: Path, where: str, display: Display) -> StudyRow:
    """Return accuracies, rank, the largest eigenvalue's share of the variance, and the faults."""
    diagnosis = examine(run)
    faults = ", ".join(verdict.name for verdict in diagnosis.verdicts if verdict.severity == SICK)
    if find_checkpoint(run / CHECKPOINTS) is None:
        return {"doctor": faults}
    numbers = evaluate_encoder(str(run), where, bank="", limit=LIMIT, display=display)
    rows = embed_source(open_embedder(str(run)), where, LIMIT, display).rows
    spectrum = measure_spectrum(rows)
    numbers["top_eigenvalue"] = round(spectrum.top_share(1), 4)
    numbers["top5_eigenvalues"] = round(spectrum.top_share(5), 4)
    judged: StudyRow = {name: numbers[name] for name in COLUMNS if name in numbers}
    return judged | {"doctor": faults or diagnosis.state}


def plot_study(study: Study, rows: Sequence[StudyRow]) -> str:
    """Return a plot of accuracy over the largest eigenvalue's share."""
    known = [row for row in rows if "linear" in row]
    points = [(float(row["top_eigenvalue"]), float(row["linear"])) for row in known]
    labels = [str(row["run"]) for row in known]
    title = "linear probe (per cent) over the largest eigenvalue's share"
    return draw_page(study.question, [draw_points(title, points, labels, framed=True)])


def format_table(rows: Sequence[StudyRow]) -> list[str]:
    """Return the rows as lines of text."""
    names = ["run", *(name for name in COLUMNS if any(name in row for row in rows))]
    cells = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(names))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
