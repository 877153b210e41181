"""The report of suites: one HTML file with scores, groups and pictures of the worst cases.

What must stay true: it loads nothing, and every text in it is escaped.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

from twinlens.bundle.image.image_source import ImageSource
from twinlens.training.suites.material import decode_picture
from twinlens.training.suites.result import Case, Measure, Result

_SIDE = 128  # height of a shown picture
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse}td,th{padding:2px 14px 2px 0;text-align:left;vertical-align:top}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}img{margin:2px}
figure{display:inline-block;margin:0 14px 14px 0;max-width:300px;vertical-align:top}
figcaption{font-size:13px}.right{color:#2d6a2d}.said{color:#a33b26}
.bar{position:relative;width:200px;height:12px;background:#eee}
.bar i{position:absolute;top:0;height:12px;background:#8fb3d9}
.bar b{position:absolute;top:-2px;width:2px;height:16px;background:#222}
.bar u{position:absolute;top:-2px;width:2px;height:16px;background:#c8553d}
@media(prefers-color-scheme:dark){body{background:#16181c;color:#ddd}.bar{background:#333}
.bar b{background:#eee}.right{color:#8fd08f}.said{color:#f0907a}}
"""
_KEY = "Light bar: 95 % interval. Dark line: score. Red line: chance."


def write_report(path: Path, title: str, results: Sequence[Result]) -> Path:
    """Write the results to an HTML file, and return its path."""
    parts = "".join(part for result in results for part in _tell_result(result))
    rows = "".join(_tell_measure(result.suite, result.measure) for result in results)
    name = html.escape(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{name}</h1><p>{_KEY}</p>"
        f"{_table(rows)}{parts}</body></html>",
        encoding="utf-8",
    )
    beside.rename(path)
    return path


def _tell_result(result: Result) -> Iterator[str]:
    yield f"<h2>{html.escape(result.suite)}</h2>"
    if result.groups:
        yield _table("".join(_tell_measure(name, own) for name, own in result.groups.items()))
    if result.numbers:
        cells = (
            f"<tr><td>{html.escape(k)}<td class=number>{v:g}" for k, v in result.numbers.items()
        )
        yield f"<table>{''.join(cells)}</table>"
    if result.worst:
        yield f"<h3>The {len(result.worst)} worst cases</h3>"
        yield from map(_tell_case, result.worst)


def _table(rows: str) -> str:
    heads = "".join(f"<th class=number>{head}" for head in ("score", "chance", "95 %", "n"))
    return f"<table><tr><th>{heads}<th>{rows}</table>"


def _tell_measure(name: str, measure: Measure) -> str:
    low, high = 100 * measure.low, 100 * measure.high
    cells = (f"{measure.score:.1%}", f"{measure.chance:.1%}", f"{low:.1f} to {high:.1f}", measure.n)
    numbers = "".join(f"<td class=number>{cell}" for cell in cells)
    return (
        f"<tr><td>{html.escape(name)}{numbers}<td><div class=bar>"
        f'<i style="left:{low:.1f}%;width:{high - low:.1f}%"></i>'
        f'<b style="left:{100 * measure.score:.1f}%"></b>'
        f'<u style="left:{100 * measure.chance:.1f}%"></u></div>'
    )


def _tell_case(case: Case) -> str:
    pictures = "".join(_draw(picture) for picture in case.pictures)
    group = f" ({html.escape(case.group)})" if case.group else ""
    right, said = html.escape(case.right), html.escape(case.said)
    return (
        f"<figure>{pictures}<figcaption>{html.escape(case.asked)}{group}"
        f"<br>right: <span class=right>{right}</span><br>said: <span class=said>{said}</span>"
        f"<br>margin {case.margin:.3f}</figcaption></figure>"
    )


def _draw(picture: ImageSource) -> str:
    shown = decode_picture(picture, _SIDE)
    buffer = BytesIO()
    shown.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="" height="{_SIDE}" src="data:image/png;base64,{data}">'
