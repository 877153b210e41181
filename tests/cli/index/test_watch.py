"""`twinlens index watch` and `serve --watch`: a folder is followed until a signal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from twinlens.cli.serving.collections import Images, following, open_collections
from twinlens.index.collection import Collection

ROOT = Path(__file__).resolve().parents[3]
Run = Callable[..., tuple[int, str, str]]


def names(folder: Path) -> list[str]:
    with Collection(folder) as reader:
        return [item.id for item in reader.catalog.items()]


def test_a_folder_is_followed_from_empty_until_ctrl_c(
    tmp_path: Path, toy_bundle: Path, squares: dict[str, bytes]
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "photos.index"
    photos.mkdir()
    options = ["--bundle", toy_bundle, "--quiet", "0.05", "--json"]
    command = [sys.executable, "-m", "twinlens", "index", "watch", photos, "-o", out, *options]
    process = subprocess.Popen(
        [str(one) for one in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        lines: list[str] = []
        while not (lines and "Ctrl-C ends it" in lines[-1]):
            lines.append(process.stderr.readline())
            assert process.poll() is None, lines
        (photos / "red.png").write_bytes(squares["red"])
        for _ in range(12):  # the summary of the first build, over several lines
            if (line := process.stdout.readline()).startswith('{"embedded"'):
                break
        while not line.startswith('{"embedded"'):
            line = process.stdout.readline()
        assert json.loads(line) == {"embedded": 1, "removed": 0, "failed": 0}
        assert names(out) == ["red.png"]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def test_a_folder_that_is_not_there_is_refused(cli: Run, tmp_path: Path) -> None:
    code, _, err = cli("index", "watch", tmp_path / "none", "-o", tmp_path / "c")
    assert (code, "is not a folder" in err) == (2, True)
    assert not (tmp_path / "c").exists()


def test_a_server_follows_the_folder_of_its_images(
    photos: Path, tmp_path: Path, toy_bundle: Path, squares: dict[str, bytes]
) -> None:
    images = Images(photos, watch=True)
    with following(images, tmp_path / "data", str(toy_bundle)) as start:
        store = open_collections([], images, tmp_path / "data", str(toy_bundle))
        try:
            (photos / "between.png").write_bytes(squares["red"])
            start()
            served = store.find("images")
            (photos / "blue.png").unlink()
            end = time.monotonic() + 20
            while sorted(names(served.folder)) != ["between.png", "green.png", "red.png"]:
                assert time.monotonic() < end
                time.sleep(0.05)
            assert served.snapshot().live_count == 3
        finally:
            store.close()


def test_watching_needs_images(cli: Run) -> None:
    code, _, err = cli("serve", "--watch")
    assert (code, "--images" in err) == (2, True)


@pytest.mark.parametrize("bundle", ["builtin"])
def test_nothing_is_followed_unasked(bundle: str, photos: Path) -> None:
    with following(Images(photos), None, bundle) as start:
        start()
