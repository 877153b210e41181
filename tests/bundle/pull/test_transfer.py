"""Progress is a bar on a terminal, and a line now and then elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

from twinlens.bundle.pull.transfer import Progress


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_there_is_a_line_after_some_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("twinlens.bundle.pull.transfer.time.monotonic", lambda: now[0])
    told: list[str] = []
    with Progress("model.onnx", 350_000_000, told.append) as progress:
        for second in range(25):
            now[0] = float(second)
            progress.show(second * 10_000_000)
    assert told == ["model.onnx: 110 of 350 MB", "model.onnx: 220 of 350 MB"]


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    told: list[str] = []
    with Progress("model.onnx", 1000, told.append) as progress:
        progress.show(250)
        progress.show(1000)
    assert "model.onnx: 100%" in screen.getvalue() and told == []
