"""`twinlens models`: the catalogue on a terminal and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from twinlens.bundle import model_speed

Run = Callable[..., tuple[int, str, str]]


def test_it_lists_a_line_per_model_and_says_what_was_not_tried(cli: Run) -> None:
    code, out, err = cli("models")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["source", "good", "for"]
    assert all(line.startswith("builtin") and line.endswith("yes") for line in lines[1:3])
    assert all("not tried" in line for line in lines[3:])
    assert any("hf:onnx-community/siglip2-base-patch16-224-ONNX" in line for line in lines)
    assert "repeats the publisher" in err


def test_a_word_chooses_lines(cli: Run) -> None:
    out = cli("models", "dinov3")[1]
    assert "gated" in out
    assert len(out.splitlines()) == 2
    assert len(cli("models", "nosuchword")[1].splitlines()) == 1


def test_json_holds_every_field(cli: Run) -> None:
    rows = json.loads(cli("models", "--json")[1])
    assert rows[0]["source"] == "builtin"
    assert {"good_for", "languages", "dimensions", "megabytes", "licence", "tried"} <= set(rows[0])
    assert rows[0]["speed"] is None


def test_measuring_gives_the_speed_of_what_is_here(
    cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_speed, "SECONDS", 0.05)
    rows = json.loads(cli("models", "builtin", "--measure", "--json")[1])
    assert rows[0]["speed"]["images_per_second"] > 1
    assert "images/s" in cli("models", "builtin", "--measure")[1]
