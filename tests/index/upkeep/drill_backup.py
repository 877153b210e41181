"""Run as a program: backs a collection up again and again until killed, printing each copy."""

from __future__ import annotations

import sys
from pathlib import Path

from twinlens.index.upkeep.backup import back_up


def main(folder: str, out: str) -> None:
    """Write OUT/0, OUT/1, ... until killed; print a number once its copy is there."""
    number = 0
    print("ready", flush=True)  # noqa: T201
    while True:
        if not (Path(out) / str(number)).exists():
            back_up(folder, Path(out) / str(number), link=number % 2 == 0)
            print(number, flush=True)  # noqa: T201
        number += 1


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
