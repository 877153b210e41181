"""The README says what is true: its Python prints what stands beside it, its links exist."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_the_python_prints_what_stands_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    shown = 0
    for i, (language, code) in enumerate(BLOCKS):
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), {})
        if BLOCKS[i + 1][0] == "text":
            assert printed.getvalue() == BLOCKS[i + 1][1]
            shown += 1
    assert shown >= 1


def test_the_links_and_pictures_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / target).exists(), target


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
