"""`python -m recipes.builtin RUN [DATA]`: train, evaluate and export the builtin encoder.

Interrupted at any moment, the same command resumes. Without DATA the data are in the folder that
TWINLENS_DATA names; the bundle replaces the one in the package, unless --out says otherwise.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import twinlens.bundle
from recipes.builtin.corpus import find_data
from recipes.builtin.packaging import NAME
from recipes.builtin.pipeline import make, set_recipe
from recipes.builtin.recipe import Recipe
from twinlens.cli.terminal import print_error, print_json, print_note
from twinlens.errors import InputError, TwinlensError
from twinlens.training.progress import open_display

_HOME = Path(twinlens.bundle.__file__).parent / NAME


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code, as `twinlens` does: 2 is an input error."""
    options = _build_parser().parse_args(arguments)
    try:
        recipe = set_recipe(options.sets)
        if options.show:
            print_json(dataclasses.asdict(recipe))
        elif options.run is None:
            raise InputError("give the folder of the run: python -m recipes.builtin RUN")
        else:
            _make(options.data or find_data(), options.run, recipe, options.out)
    except KeyboardInterrupt:
        print_error("interrupted; the same command resumes")
        return 130
    except TwinlensError as error:
        print_error(error.message)
        return 2 if isinstance(error, InputError) else 1
    return 0


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m recipes.builtin", description=__doc__)
    parser.add_argument("run", metavar="RUN", type=Path, nargs="?", help="folder of the run")
    parser.add_argument("data", metavar="DATA", type=Path, nargs="?", help="folder of the data")
    parser.add_argument("--out", type=Path, default=_HOME, help="where the bundle goes")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="sets", help="repeatable"
    )
    parser.add_argument("--show", action="store_true", help="print the settings and stop")
    return parser


def _make(data: Path, run: Path, recipe: Recipe, out: Path) -> None:
    display = open_display()
    try:
        manifest = make(data, run, recipe, out, display)
    finally:
        display.close()
    print_note(f"trained builtin; bundle: {out}, revision {manifest.revision[:12]}")


if __name__ == "__main__":
    sys.exit(main())
