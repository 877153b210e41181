"""Under `auto` the engine that wins the trial runs a tower, and a second start does not measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twinlens.bundle import trial
from twinlens.bundle.encoder import open_bundle
from twinlens.bundle.engine import openvino_session
from twinlens.bundle.engine.record import FILE_NAME
from twinlens.bundle.manifest import Variant
from twinlens.bundle.processors import count_physical_cores
from twinlens.bundle.session import Runtime
from twinlens.bundle.store import verify_bundle
from twinlens.bundle.tower import Tower, TowerFile, find_tower_file
from twinlens.bundle.trial import GoldenSample, recall_choice
from twinlens.errors import InputError, MissingDependencyError

Make = Callable[..., Path]
QUICK, SLOW = 0.01, 0.1


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds of a run by engine, in place of the clock; tests change them."""
    seconds = {"onnxruntime": SLOW, "openvino": QUICK, "runs": 0}
    seconds |= {"onnxruntime cpu": SLOW, "openvino cpu": QUICK}

    def time(tower: Tower, items: Any, expected: float = 0.0) -> tuple[float, float]:
        assert len(tower.encode(items)) == len(items)
        seconds["runs"] += 1
        return seconds[tower.graph.engine], seconds[f"{tower.graph.engine} cpu"]

    monkeypatch.setattr(trial, "_time", time)
    return seconds


def choose(folder: Path, **options: Any) -> dict[str, str]:
    return open_bundle(folder, **options).engines


def test_the_faster_engine_runs_the_towers(
    make_toy: Make, openvino: Path, clocked: dict[str, float]
) -> None:
    folder = make_toy()
    encoder = open_bundle(folder)
    assert encoder.engines == {"image": "openvino", "text": "openvino"}
    assert encoder.provider == "OpenVINO CPU"
    encoder.check()


def test_an_engine_that_does_not_win_is_not_used(
    make_toy: Make, openvino: Path, clocked: dict[str, float]
) -> None:
    clocked["openvino"] = SLOW  # though it takes less of the CPU
    assert set(choose(make_toy()).values()) == {"onnxruntime"}


def test_an_engine_that_wins_by_taking_more_of_the_machine_is_not_used(
    make_toy: Make, openvino: Path, clocked: dict[str, float]
) -> None:
    clocked["openvino cpu"] = 2 * SLOW
    assert set(choose(make_toy()).values()) == {"onnxruntime"}


def test_towers_choose_apart(
    make_toy: Make, openvino: Path, clocked: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = trial._time

    def time(tower: Tower, items: Any, expected: float = 0.0) -> tuple[float, float]:
        seconds = measured(tower, items, expected)
        return (SLOW, SLOW) if "tokens" in tower.graph.shapes else seconds

    monkeypatch.setattr(trial, "_time", time)
    encoder = open_bundle(make_toy())
    assert encoder.engines == {"image": "openvino", "text": "onnxruntime"}
    assert encoder.provider == "OpenVINO CPU, CPUExecutionProvider"


def test_a_second_start_does_not_measure(
    make_toy: Make, openvino: Path, clocked: dict[str, float]
) -> None:
    folder = make_toy()
    first = choose(folder)
    measured = clocked["runs"]
    assert measured > 0
    clocked["openvino"] = 10 * SLOW
    assert choose(folder) == first
    assert clocked["runs"] == measured
    choose(folder, threads=1 + count_physical_cores())  # another machine, so to speak
    assert clocked["runs"] > measured
    assert [path.name for path in openvino.iterdir()] == [FILE_NAME]


def test_wrong_rows_are_not_used_however_fast(
    make_toy: Make, openvino: Path, clocked: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = openvino_session.OpenVinoSession.run

    def run_wrongly(self: Any, outputs: list[str], feeds: dict[str, Any]) -> list[Any]:
        return [np.roll(rows, 1, axis=1) for rows in run(self, outputs, feeds)]

    monkeypatch.setattr(openvino_session.OpenVinoSession, "run", run_wrongly)
    folder = make_toy()
    assert set(choose(folder).values()) == {"onnxruntime"}
    choice = recall_choice(open_file(folder), Runtime())
    assert choice is not None and "cosine" in choice.reason


def test_rows_that_are_wrong_only_one_by_one_are_noticed(
    make_toy: Make, openvino: Path, clocked: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = openvino_session.OpenVinoSession.run

    def run_wrongly(self: Any, outputs: list[str], feeds: dict[str, Any]) -> list[Any]:
        return [-rows if len(rows) == 1 else rows for rows in run(self, outputs, feeds)]

    monkeypatch.setattr(openvino_session.OpenVinoSession, "run", run_wrongly)
    assert set(choose(make_toy()).values()) == {"onnxruntime"}


@pytest.mark.parametrize("error", [RuntimeError("no kernel"), MissingDependencyError("no library")])
def test_an_engine_that_fails_is_not_used_and_the_reason_is_kept(
    make_toy: Make,
    openvino: Path,
    clocked: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(openvino_session, "_compile_graph", fail)
    folder = make_toy()
    assert set(choose(folder).values()) == {"onnxruntime"}
    choice = recall_choice(open_file(folder), Runtime())
    assert choice is not None and str(error) in choice.reason
    with pytest.raises(type(error), match=str(error)):
        open_bundle(folder, engine="openvino")


def test_a_quick_graph_is_not_worth_a_second_engine(make_toy: Make, openvino: Path) -> None:
    """The toy, really timed: OpenVINO is not even loaded for it."""
    folder = make_toy()
    assert set(choose(folder).values()) == {"onnxruntime"}
    choice = recall_choice(open_file(folder), Runtime())
    assert choice is not None and choice.reason.startswith("too quick")


def test_a_real_trial_of_the_builtin_ends_with_an_engine_that_is_right(openvino: Path) -> None:
    encoder = open_bundle("builtin", threads=1)
    encoder.check()
    choice = recall_choice(open_file(encoder.folder), Runtime(threads=1))
    assert choice is not None
    assert choice.engine == encoder.engines["image"]
    assert choice.cosine is not None and choice.cosine > 1 - 1e-6
    assert len(choice.speedups) == 2


def test_without_openvino_nothing_is_measured_or_remembered(
    toy_bundle: Path, clocked: dict[str, float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TWINLENS_CACHE", str(tmp_path / "cache"))
    assert set(choose(toy_bundle).values()) == {"onnxruntime"}
    assert clocked["runs"] == 0
    assert not (tmp_path / "cache").exists()


def test_a_named_engine_is_not_measured(
    make_toy: Make, openvino: Path, clocked: dict[str, float]
) -> None:
    folder = make_toy()
    for engine in ("onnxruntime", "openvino"):
        assert set(choose(folder, engine=engine).values()) == {engine}
    assert clocked["runs"] == 0


def test_openvino_is_asked_for_where_it_is_missing(
    toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    openvino_session._start_core.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"pip install 'twinlens\[openvino\]'"):
        open_bundle(toy_bundle, engine="openvino")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "onnxruntime"}, "ONNX Runtime does not compute in it; use --engine openvino"),
        ({}, r"pip install 'twinlens\[openvino\]'"),
    ],
)
def test_bf16_says_what_it_needs(toy_bundle: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_bundle(toy_bundle, precision="bf16", **options)  # type: ignore[arg-type]
    assert caught.value.field == "precision"


def test_bf16_is_refused_on_a_cpu_without_it(
    toy_bundle: Path, openvino: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_session, "has_bf16", lambda: False)
    with pytest.raises(InputError, match="this CPU has no instructions for it"):
        open_bundle(toy_bundle, precision="bf16")


def test_bf16_is_refused_where_it_moves_embeddings_too_far(
    make_toy: Make, openvino: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_session, "has_bf16", lambda: True)
    monkeypatch.setattr(GoldenSample, "measure_cosine", lambda self, tower: 0.98)
    folder = make_toy()
    for _ in range(2):  # measured, then remembered
        with pytest.raises(InputError, match=r"cosine 0\.980000 .* under 0\.999; use --precision"):
            open_bundle(folder, precision="bf16")


def test_a_stored_bf16_variant_needs_no_openvino(toy_bundle: Path) -> None:
    manifest = verify_bundle(toy_bundle)
    stored = replace(manifest, variants=(Variant("text", "bf16", "text.onnx", 1.0, 1.0),))
    found = {name: find_tower_file(toy_bundle, stored, name, "bf16") for name in ("image", "text")}
    assert {name: file.precision for name, file in found.items()} == {
        "image": "fp32",
        "text": "bf16",
    }
    assert not any(file.in_bf16 for file in found.values())


def open_file(folder: Path) -> TowerFile:
    return find_tower_file(folder, verify_bundle(folder, hashes=False), "image", "fp32")
