"""A choice is remembered for one machine, bundle and set of versions; losing it is no failure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from twinlens.bundle.engine import record
from twinlens.bundle.engine.choice import Choice
from twinlens.bundle.engine.record import (
    FILE_NAME,
    Subject,
    describe_machine,
    read_choice,
    write_choice,
)

SUBJECT = Subject("a" * 64, "image", "fp32", 2, ("0.1", "1.23", "2026.1"))
CHOICE = Choice("openvino", "it is faster", 0.99999, (1.5, 1.25))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TWINLENS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_choice_is_remembered() -> None:
    assert read_choice(SUBJECT) is None
    write_choice(SUBJECT, CHOICE)
    assert read_choice(SUBJECT) == CHOICE


@pytest.mark.parametrize(
    "changed",
    [
        {"revision": "b" * 64},
        {"tower": "text"},
        {"precision": "bf16"},
        {"threads": 4},
        {"versions": ("0.1", "1.24", "2026.1")},
    ],
)
def test_it_holds_for_nothing_else(changed: dict[str, object]) -> None:
    write_choice(SUBJECT, CHOICE)
    assert read_choice(replace(SUBJECT, **changed)) is None  # type: ignore[arg-type]


def test_it_holds_for_no_other_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    write_choice(SUBJECT, CHOICE)
    monkeypatch.setattr(record, "describe_machine", lambda: "another CPU")
    assert read_choice(SUBJECT) is None


def test_a_new_choice_replaces_the_old_one_and_leaves_the_others() -> None:
    other = replace(SUBJECT, tower="text")
    write_choice(SUBJECT, CHOICE)
    write_choice(other, CHOICE)
    write_choice(SUBJECT, replace(CHOICE, engine="onnxruntime"))
    assert read_choice(SUBJECT) == replace(CHOICE, engine="onnxruntime")
    assert read_choice(other) == CHOICE


def test_the_oldest_choices_go(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "_MOST", 3)
    subjects = [replace(SUBJECT, threads=count) for count in range(1, 6)]
    for subject in subjects:
        write_choice(subject, CHOICE)
    assert [read_choice(subject) is None for subject in subjects] == [True] * 2 + [False] * 3
    assert len(json.loads((cache / FILE_NAME).read_text())) == 3


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1]",
        "{",
        '{"KEY": 3}',
        '{"KEY": {"engine": "tpu", "reason": "", "cosine": 1, "speedups": []}}',
        '{"KEY": {"engine": "openvino", "reason": "", "cosine": "?", "speedups": []}}',
        '{"KEY": {"engine": "openvino"}}',
    ],
)
def test_a_record_that_cannot_be_read_is_none_and_is_written_anew(
    cache: Path, content: str
) -> None:
    cache.mkdir()
    (cache / FILE_NAME).write_text(content.replace("KEY", SUBJECT.key))
    assert read_choice(SUBJECT) is None
    write_choice(SUBJECT, CHOICE)
    assert read_choice(SUBJECT) == CHOICE


def test_a_cache_that_cannot_be_written_is_no_failure(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    write_choice(SUBJECT, CHOICE)
    assert read_choice(SUBJECT) is None


def test_only_the_record_is_left_in_the_cache(cache: Path) -> None:
    write_choice(SUBJECT, CHOICE)
    write_choice(SUBJECT, CHOICE)
    assert [path.name for path in cache.iterdir()] == [FILE_NAME]


def test_cpus_are_told_apart_by_their_instructions(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    told = []
    for flags, hertz in (("avx2", 1000), ("avx2", 2000), ("avx2 amx_bf16", 1000)):
        info.write_text(f"model name\t: Some CPU\nflags\t: {flags}\ncpu MHz\t: {hertz}\n\n")
        told.append(describe_machine(info))
    assert told[0] == told[1] != told[2]
    assert describe_machine(tmp_path / "none")
