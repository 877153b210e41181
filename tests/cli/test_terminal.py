"""Progress is silent for quick work and shows rate and remaining time for long work."""

from __future__ import annotations

import pytest

from twinlens.cli import terminal


def test_quick_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(terminal.track(range(3), "counting", 3)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_long_work_without_a_terminal_prints_plain_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(terminal, "monotonic", lambda: float(next(clock)))
    assert list(terminal.track(range(4), "counting", 4)) == [0, 1, 2, 3]
    assert capsys.readouterr().err.splitlines() == [
        "counting: 2 of 4, 0.2/s, 12 s left",
        "counting: 4 of 4, 0.2/s, 0 s left",
    ]


def test_numpy_values_become_json(capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    terminal.print_json({"row": np.ones(2, np.float32)})
    assert capsys.readouterr().out.split() == ["{", '"row":', "[", "1.0,", "1.0", "]", "}"]
