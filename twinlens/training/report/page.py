"""The page itself: HTML from a run's folder.

What must stay true: text from the run is escaped.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twinlens.training.doctor.examination import examine
from twinlens.training.doctor.history import HELD_OUT
from twinlens.training.doctor.verdict import Diagnosis
from twinlens.training.report.charts import STYLE as CHARTS
from twinlens.training.report.charts import Points, draw_lines
from twinlens.training.report.pictures import draw_pictures
from twinlens.training.runs.checkpoints import BEST, find_checkpoint, load_facts
from twinlens.training.runs.logs import read_log
from twinlens.training.runs.run import CHECKPOINTS, CONFIG, DATA, open_run, read_config

REPORT = "report.html"
ACCURACIES = ("knn", "probe")
RANKS = ("rank", "rank_me", "head_rank")
SPREADS = ("spread", "head_spread")
ENTROPIES = ("teacher_entropy", "shared_entropy")
CONCENTRATIONS = ("top_eigenvalue", "top5_eigenvalues")
OTHERS = {"step", "lr", "gradient", "images/s", "variety", "not_finite", "loss", "twin_shared"}
STYLE = f"""
{CHARTS}
body{{font:15px/1.45 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#222}}
figure.wide{{width:100%}}
.sick{{border-left:4px solid #c8553d;padding-left:12px}}.note{{border-left:4px solid #b58900;
padding-left:12px}}pre{{background:#f4f4f4;padding:10px;overflow:auto}}img{{margin:2px;
image-rendering:pixelated}}table{{border-collapse:collapse}}td{{padding:1px 14px 1px 0}}
td+td{{text-align:right;font-variant-numeric:tabular-nums}}summary{{cursor:pointer}}
"""


def write_report(folder: Path) -> Path:
    """Write the report of a run into its folder, and return its path."""
    config, rows, diagnosis = read_config(folder), read_log(folder), examine(folder)
    data = json.loads((folder / DATA).read_text(encoding="utf-8"))
    title = f"{config.method}: {folder.name}"
    trained = find_checkpoint(folder / CHECKPOINTS) is not None
    pictures = draw_pictures(open_run(folder)) if trained else []
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{config.method} after {diagnosis.step} steps on {html.escape(str(data['where']))}:"
        f" {data['count']} images, fingerprint <code>{html.escape(data['fingerprint'])}</code></p>",
        *tell_verdict(diagnosis),
        tell_readings(diagnosis),
        *tell_best(folder),
        *draw_numbers(rows, diagnosis.readings["chance"]),
        *pictures,
        "<h2>Recipe</h2>",
        "<details><summary>all settings</summary>"
        f"<pre>{html.escape((folder / CONFIG).read_text(encoding='utf-8'))}</pre></details>",
    ]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    text = f"<!doctype html><html><head>{head}</head><body>{''.join(body)}</body></html>"
    path = folder / REPORT
    beside = path.with_suffix(".part")
    beside.write_text(text, encoding="utf-8")
    beside.rename(path)
    return path


def tell_verdict(diagnosis: Diagnosis) -> list[str]:
    """Return the doctor's diagnosis as HTML."""
    lines = [f"<h2>Doctor: {diagnosis.state}</h2>"]
    for verdict in diagnosis.verdicts:
        words = (verdict.name, verdict.what, verdict.cause, verdict.remedy)
        name, what, cause, remedy = map(html.escape, words)
        lines.append(
            f'<div class="{verdict.severity}"><b>{name}</b><p>{what}.<br>Likely cause: {cause}.'
            f"<br>Remedy: {remedy}.</p></div>"
        )
    return lines


def tell_readings(diagnosis: Diagnosis) -> str:
    """Return the numbers that the verdict rests on, collapsed."""
    cells = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{value:.5g}</td></tr>"
        for name, value in diagnosis.readings.items()
    )
    return f"<details><summary>readings</summary><table>{cells}</table></details>"


def tell_best(folder: Path) -> list[str]:
    """Return which checkpoint is the best by held-out data, and how to export it."""
    best = find_checkpoint(folder / CHECKPOINTS, BEST)
    if best is None:
        return []
    step = int(load_facts(best)["step"])
    return [
        f"<p>Best by held-out data: <code>{html.escape(best.name)}</code>, after step {step};"
        f" <code>twinlens export {html.escape(folder.name)} --best -o BUNDLE</code> serves it.</p>"
    ]


def _pick_scores(names: Sequence[str]) -> list[str]:
    return [name for name in names if "_to_" not in name and not name.endswith("/seconds")]


def _pick_recalls(names: Sequence[str]) -> list[str]:
    return [name for name in names if "_to_" in name]


def draw_numbers(rows: Sequence[Mapping[str, Any]], chance: float) -> list[str]:
    """Return the charts of a log."""
    logged = dict.fromkeys(name for row in rows for name in row)
    known = {*OTHERS, *ACCURACIES, *RANKS, *SPREADS, *ENTROPIES, *CONCENTRATIONS}
    terms = [name for name in logged if name not in known and "/" not in name]

    def take(names: Sequence[str]) -> dict[str, Points]:
        return {n: [(row["step"], row[n]) for row in rows if n in row] for n in names}

    def under(prefix: str) -> list[str]:
        return [name for name in logged if name.startswith(prefix)]

    return [
        draw_lines("loss (dashed: chance)", take(["loss"]), chance),
        draw_lines("held-out data, per cent", take(_pick_scores(under(HELD_OUT)))),
        draw_lines("held-out recall, per cent", take(_pick_recalls(under(HELD_OUT)))),
        draw_lines("online accuracy", take(ACCURACIES)),
        draw_lines("effective rank", take(RANKS)),
        draw_lines("spread of unit embeddings", take(SPREADS), 1.0),
        draw_lines("singular values over the largest", take(under("singular/"))),
        draw_lines("share of variance in the largest directions", take(CONCENTRATIONS)),
        draw_lines("entropy of assignments", take(ENTROPIES)),
        draw_lines("gradient norm by part", take(under("grad/"))),
        draw_lines("step over weights, by part", take(under("update/"))),
        draw_lines("learning rate", take(["lr"])),
        *(draw_lines(name, take([name])) for name in terms),
    ]
