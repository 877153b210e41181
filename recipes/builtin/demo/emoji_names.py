"""`python -m recipes.builtin.demo.emoji_names`: CLDR's names of the emoji that the demo draws.

The labels of npm's `emojibase-data` are CLDR's short names in English; `emoji_names.json` of the
demo keeps those of single characters that fonts draw as emoji by default. NOTICE names both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twinlens.cli.terminal import print_note
from twinlens.demo.emoji import NAMES

PACKAGE = "emojibase-data@17.0.0"
_LIST = "package/en/compact.json"
# Blocks of characters that fonts draw as emoji by default.
BLOCKS = (
    (0x231A, 0x23FF),
    (0x2600, 0x27BF),
    (0x2B00, 0x2BFF),
    (0x1F300, 0x1F3FA),  # excludes skin tones, which modify other emoji
    (0x1F400, 0x1F64F),
    (0x1F680, 0x1F6FF),
    (0x1F7E0, 0x1F7EB),
    (0x1F900, 0x1FAFF),
)
_AS_EMOJI = "\ufe0f"  # follows characters that are text by default


def fetch_labels() -> list[dict[str, Any]]:
    """Return every emoji of the package with its label."""
    with tempfile.TemporaryDirectory(prefix="twinlens-") as folder:
        pack = ["npm", "pack", "--silent", "--pack-destination", folder, PACKAGE]
        subprocess.run(pack, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(folder).iterdir()
        with tarfile.open(archive) as packed:
            listed = packed.extractfile(_LIST)
            assert listed is not None
            labels: list[dict[str, Any]] = json.loads(listed.read())
            return labels


def choose_names(labels: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the names of characters of the blocks, in code point order."""
    known = {row["unicode"].replace(_AS_EMOJI, ""): row["label"] for row in labels}
    characters = [chr(code) for first, last in BLOCKS for code in range(first, last + 1)]
    return {one: known[one] for one in characters if one in known}


def write_names(names: Mapping[str, str], file: Path) -> None:
    """Write one name per line, so that a diff shows the changes of a new edition."""
    text = json.dumps(names, ensure_ascii=False, indent=0)
    file.write_text(text + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(
        "python -m recipes.builtin.demo.emoji_names", description=__doc__
    )
    parser.add_argument("--out", type=Path, default=NAMES)
    options = parser.parse_args(arguments)
    names = choose_names(fetch_labels())
    write_names(names, options.out)
    print_note(f"{len(names)} names: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
