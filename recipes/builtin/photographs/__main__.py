"""`python -m recipes.builtin.photographs RUN [DATA]`: make `builtin:photographs`.

Interrupted at any moment, the same command resumes. Without DATA the data are in the folder that
TWINLENS_DATA names; the bundle replaces the one in the package, unless --out says otherwise.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from recipes.builtin.corpus import find_data
from recipes.builtin.photographs.pipeline import make
from recipes.builtin.photographs.text_trainer import TextRecipe
from twinlens.bundle.location import DRAWINGS, PHOTOGRAPHS, find_bundle
from twinlens.cli.terminal import print_error, print_note
from twinlens.errors import InputError, TwinlensError
from twinlens.training.config import set_keys
from twinlens.training.progress import open_display


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 2 is an input error."""
    parser = argparse.ArgumentParser("python -m recipes.builtin.photographs", description=__doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of the run")
    parser.add_argument("data", metavar="DATA", type=Path, nargs="?", help="folder of the data")
    parser.add_argument("--out", type=Path, default=find_bundle(PHOTOGRAPHS))
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="sets", help="repeatable"
    )
    options = parser.parse_args(arguments)
    display = open_display()
    try:
        recipe = set_keys(TextRecipe(), options.sets, "recipe photographs")
        data = options.data or find_data()
        made = make(data, options.run, find_bundle(DRAWINGS), options.out, recipe, display)
    except KeyboardInterrupt:
        print_error("interrupted; the same command resumes")
        return 130
    except TwinlensError as error:
        print_error(error.message)
        return 2 if isinstance(error, InputError) else 1
    finally:
        display.close()
    print_note(f"made builtin:photographs; bundle: {options.out}, revision {made.revision[:12]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
