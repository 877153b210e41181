"""The line that a starting server prints must work as it stands."""

from __future__ import annotations

from pathlib import Path

from twinlens.serving.launch import suggest_call


def test_a_picture_that_exists_is_classified(tmp_path: Path) -> None:
    picture = tmp_path / "heart.png"
    picture.write_bytes(b"png")
    assert f"/zeroshot -F images=@{picture}" in suggest_call("http://h:1", picture)


def test_without_a_picture_a_text_is_embedded(tmp_path: Path) -> None:
    line = suggest_call("http://h:1", tmp_path / "none.png")
    assert line.startswith("curl http://h:1/embed")
    assert "a red heart" in line
