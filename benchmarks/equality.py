"""Compares each loss with its authors' code: value and gradient of lightly, open_clip and formulas.

Identical float64 tensors go through our objective and through lightly's or open_clip's loss (`pip
install lightly open_clip_torch`), or through the formula rewritten from paper or release if no
release installs beside a current torch. It prints the relative difference of the value and of the
whole gradient. With all peers installed it writes docs/equality.md; `--quick` only prints.
"""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

import torch
from losses import formulas, peers
from losses.comparison import Comparison, measure
from report import Report, parse_arguments

PAGE = Path(__file__).resolve().parents[1] / "docs" / "equality.md"
BAR = 1e-6
PACKAGES = {"lightly": "lightly", "open_clip": "open_clip_torch"}
INTRO = """\
# Equality: our losses match their authors' code

Identical float64 tensors go through our objectives and through another implementation. The table
has the relative difference of the value, and of the gradient with respect to all inputs together.
`python benchmarks/equality.py` reproduces this page. "formula" is the formula of the paper or its
release, written again image by image, if the release does not install with a current torch. In the
tests, NumPy oracles check value and gradient of every method as well. They include hard cases:
duplicates, logits of 60 and more, one image alone in its class.

"""
HEAD = "| method | whose code | value | gradient |\n|---|---|---|---|\n"
FOOT = """Measured with torch {}. lightly keeps teacher temperatures in float32, visible in
dino, ibot and dinov2. SimMIM's release adds 1e-5 to the number of hidden pixels.
"""


def main() -> None:
    """Measure all comparisons, print them, and write the page."""
    arguments = parse_arguments(__doc__)
    report = Report("equality")
    lines = []
    for item in sorted(list_all(), key=lambda item: (item.method.lower(), item.whose)):
        found = [number for number in measure(item) if number is not None]
        value, gradient = (*[f"{number:.0e}" for number in found], "-")[:2]
        numbers = {"value": value, "gradient": gradient}
        report.row(method=item.method, whose=name_of(item), what=item.what, **numbers)
        report.bar(f"{item.method}: {item.what}", max(found), BAR, max(found) <= BAR)
        lines.append(f"| {item.method} | {name_of(item)}: {item.what} | {value} | {gradient} |")
    report.finish(arguments.json)
    write_page(arguments, lines)


def list_all() -> list[Comparison]:
    """Return every comparison that is possible here."""
    return [*peers.list_comparisons(), *formulas.list_comparisons()]


def name_of(item: Comparison) -> str:
    """Return the compared code, with its version."""
    package = PACKAGES.get(item.whose)
    return f"{item.whose} {importlib.metadata.version(package)}" if package else item.whose


def write_page(arguments: argparse.Namespace, lines: Sequence[str]) -> None:
    """Write the docs page, or say why not."""
    missing = peers.list_missing()
    if arguments.quick or missing:
        why = f"{', '.join(missing)} not installed" if missing else "quick"
        print(f"{PAGE.name} stays as it is ({why})")
        return
    foot = FOOT.format(torch.__version__.partition("+")[0])
    PAGE.write_text(INTRO + HEAD + "\n".join(lines) + "\n\n" + foot, encoding="utf-8")


if __name__ == "__main__":
    main()
