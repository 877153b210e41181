"""`twinlens check`: a whole bundle replays its golden vectors, a damaged one is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]


def test_check_replays_golden(cli: Run, toy_bundle: Path) -> None:
    code, out, _ = cli("check", toy_bundle)
    assert code == 0
    assert "fp32: 7 golden inputs replayed" in out
    code, out, _ = cli("check", toy_bundle, "--json")
    assert json.loads(out)["ok"] is True


def test_check_of_a_damaged_bundle_is_one_line_and_exit_2(
    cli: Run, make_toy: Callable[..., Path]
) -> None:
    folder = make_toy()
    (folder / "image.onnx.data").unlink()
    code, out, err = cli("check", folder)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "image.onnx.data" in err


def test_check_replays_golden_in_the_engine_that_is_named(
    cli: Run, toy_bundle: Path, openvino: Path
) -> None:
    out = cli("check", toy_bundle, "--engine", "openvino", "--json")[1]
    (replayed,) = json.loads(out)["golden"]
    assert replayed["engines"] == {"image": "openvino", "text": "openvino"}
