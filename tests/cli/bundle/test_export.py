"""`twinlens export` from the command line: a valid bundle, and one-line errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from twinlens.bundle.store import read_manifest
from twinlens.cli.main import run


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


def test_an_exported_bundle_passes_check_and_the_stages_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    templates = tmp_path / "templates.txt"
    templates.write_text("a drawing of {}\n\n{}\n")
    card = tmp_path / "card.json"
    card.write_text('{"domain": "drawings"}')
    out = tmp_path / "bundle"
    code, output, errors = call(
        capsys, "export", "timm:test_vit", "--random-weights", "-o", out, "--precisions", "int8",
        "--templates", templates, "--name", "mine", "--no-attention", "--json", "--card", card,
    )  # fmt: skip
    assert code == 0, errors
    answer = json.loads(output)
    assert (answer["name"], answer["embedding_dim"]) == ("mine", 64)
    assert answer["variants"][0]["precision"] == "fp32"
    assert "tracing the image tower" in errors
    assert "agrees with torch" in errors
    assert any("agrees with torch" in note for note in answer["notes"])
    assert not (out / "attention.onnx").exists()
    assert read_manifest(out).extensions == {"card": {"domain": "drawings"}}
    code, output, _ = call(capsys, "check", out, "--device", "cpu")
    assert code == 0
    assert "ok: revision " + answer["revision"][:12] in output
    code, _, errors = call(capsys, "export", "timm:test_vit", "--random-weights", "-o", out)
    assert code == 2
    assert errors.splitlines()[-1].startswith("error: ")
    assert "--force" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["timm:test_vitt", "--random-weights"], "did you mean"),
        (["open_clip:RN50"], "--random-weights"),
        (["timm:test_vit", "--random-weights", "--precisions", "int3"], "'int3' is unknown"),
        (["timm:test_vit", "--templates", "nowhere.txt"], "'nowhere.txt' is not a file"),
        (["timm:test_vit", "--card", "nowhere.json"], "'nowhere.json' is not a file"),
        (["timm:test_vit", "--domain", "nowhere"], "'nowhere' is not a folder of pictures"),
    ],
)
def test_a_user_error_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, output, errors = call(capsys, "export", *arguments, "-o", tmp_path / "bundle")
    assert (code, output) == (2, "")
    assert message in errors.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_template_without_a_placeholder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    templates = tmp_path / "templates.txt"
    templates.write_text("a photo of a {}\na photo\n")
    code, _, errors = call(
        capsys, "export", "timm:x", "-o", tmp_path / "b", "--templates", templates
    )
    assert code == 2
    assert "holds 'a photo'; each line needs {} exactly once" in errors
