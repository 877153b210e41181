"""`python -m recipes.builtin RUN`: train, evaluate and export the builtin encoder.

Stopped at any moment, the same command goes on. The data lie in the folder of `TWINLENS_DATA`; the
bundle replaces the one in the package, unless `--out` says otherwise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import twinlens.bundle
from recipes.builtin.corpus import find_data
from recipes.builtin.packaging import NAME
from recipes.builtin.pipeline import make, set_recipe
from twinlens.training.progress import open_display

_HOME = Path(twinlens.bundle.__file__).parent / NAME


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the training run")
    parser.add_argument("--out", type=Path, default=_HOME, help="where the bundle goes")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="sets")
    given = parser.parse_args()
    display = open_display()
    try:
        manifest = make(find_data(), given.run, set_recipe(given.sets), given.out, display)
        display.say(f"{given.out}: revision {manifest.revision}")
    finally:
        display.close()


if __name__ == "__main__":
    main()
