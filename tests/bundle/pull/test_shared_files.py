"""A lock keeps others waiting until its holder ends, and a write shows no half."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from twinlens.bundle.pull.shared_files import hold_lock, write_whole

_HOLDER = """
import sys, time
from pathlib import Path
from twinlens.bundle.pull.shared_files import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_free_when_its_holder_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "one"
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, path], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        waited: list[bool] = []

        def end_holder() -> None:
            waited.append(True)
            holder.kill()

        with hold_lock(path, end_holder):
            assert waited == [True]
        with hold_lock(path, end_holder):
            assert waited == [True]


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    write_whole(path, "old")

    def refuse(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="no"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]
