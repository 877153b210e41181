"""A wrong SOURCE is refused at once: nothing heavy is imported, and the nearest names are given."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import timm

from twinlens.cli.bundle import source_names
from twinlens.errors import InputError
from twinlens.training.export.sources import list_kinds

# Runs the command in a process that has imported nothing, and tells what it cost.
PROBE = """
import json, sys, time
from twinlens.cli.main import run
begun = time.process_time()
try:
    run(["export", sys.argv[1], "--random-weights", "-o", sys.argv[2]])
except SystemExit as stop:
    code = stop.code
heavy = [n for n in ("torch", "open_clip", "timm", "onnx", "onnxruntime") if n in sys.modules]
print(json.dumps({"code": code, "heavy": heavy, "seconds": time.process_time() - begun}))
"""


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("open_clip:ViT-B-3", "did you mean ViT-B-32"),
        ("open_clip:NoSuch", "open_clip has no architecture 'NoSuch'"),
        ("timm:resnet500", "did you mean resnet50"),
        ("openclip:ViT-B-32", "did you mean open_clip?"),
        ("nowhere/at/all", "is not a folder"),
        ("EMPTY", "is not a training run"),
    ],
)
def test_a_wrong_source_is_refused_within_a_second_and_without_torch(
    source: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "EMPTY").mkdir()
    given = str(tmp_path / source) if source == "EMPTY" else source
    done = subprocess.run(
        [sys.executable, "-c", PROBE, given, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    assert message in done.stderr, done.stderr
    assert answer["code"] == 2
    assert answer["heavy"] == []
    assert answer["seconds"] < 1
    assert not (tmp_path / "out").exists()


def test_the_names_are_those_of_the_libraries() -> None:
    assert set(timm.list_models()) <= set(source_names.list_timm())
    assert all(timm.is_model(name) for name in source_names.list_timm())
    assert set(source_names.list_open_clip()) <= set(open_clip.list_models())
    assert source_names.list_kinds() == list_kinds()


@pytest.mark.parametrize(
    "source",
    ["open_clip:ViT-B/32/openai", "open_clip:hf-hub:a/b", "timm:resnet50.a1_in1k", "timm:vit_tiny"],
)
def test_a_name_with_slashes_tags_or_from_the_hub_passes(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_names, "list_timm", lambda: ["resnet50", "vit_tiny"])
    for name in ("open_clip", "timm"):
        monkeypatch.delitem(sys.modules, name)
    source_names.check_source(source)


def test_a_bare_name_of_a_model_is_answered_with_its_kind() -> None:
    with pytest.raises(InputError, match=r"did you mean open_clip:ViT-B-32"):
        source_names.check_source("ViT-B/32")


def test_a_folder_that_open_clip_reads_is_answered_with_how_to_give_it(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"give open_clip:local-dir:"):
        source_names.check_source(str(tmp_path))


def test_without_the_libraries_no_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_names, "_find_package", lambda name: None)
    source_names.check_source("timm:anything")
    source_names.check_source("open_clip:anything")
