"""Logs: rows in JSON lines, no row twice after a resume."""

from __future__ import annotations

from pathlib import Path

from twinlens.training.runs.logs import Log, read_log


def test_rows_beyond_the_checkpoint_are_dropped_before_they_are_written_again(
    tmp_path: Path,
) -> None:
    log = Log(tmp_path, from_step=0)
    for step in (1, 2, 3):
        log.add(step, {"loss": step / 2})
    log.close()
    log = Log(tmp_path, from_step=2)
    log.add(3, {"loss": 9.0})
    log.close()
    assert [(row["step"], row["loss"]) for row in read_log(tmp_path)] == [(1, 0.5), (2, 1), (3, 9)]


def test_a_line_cut_by_a_crash_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_log(tmp_path) == [{"step": 1, "loss": 2.0}]
