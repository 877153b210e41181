"""The README is short, shows code early, and names commands that exist (`test_docs` runs it)."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)[^\n]*\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_every_command_that_is_shown_exists() -> None:
    from twinlens.cli.main import COMMANDS

    shown = {
        match
        for language, code in BLOCKS
        if language == "sh"
        for match in re.findall(r"twinlens (\w+)", code)
    }
    assert shown <= set(COMMANDS)


def test_it_is_short_and_shows_code_early() -> None:
    lines = TEXT.splitlines()
    assert len(lines) < 200
    assert next(i for i, line in enumerate(lines, 1) if line.startswith("```")) <= 25


def test_the_picture_is_what_its_script_draws() -> None:
    namespace: dict[str, object] = {"__name__": "drawing"}
    source = ROOT / "docs" / "draw_path.py"
    exec(compile(source.read_text(encoding="utf-8"), str(source), "exec"), namespace)
    draw = namespace["draw_path"]
    assert callable(draw)
    assert draw() == (ROOT / "docs" / "img" / "path.svg").read_text(encoding="utf-8")
