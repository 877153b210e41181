"""`twinlens eval --suite` and `twinlens compare`, as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.training.family import write_images


def test_the_builtin_is_asked_and_its_answers_written(cli: Run, tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", 30)
    report = tmp_path / "report.html"
    code, out, err = cli(
        "eval", "builtin", data, "--suite", "classes,robustness", "--json", "--report", report
    )
    assert code == 0 and f"wrote {report}" in err
    classes, robustness = json.loads(out)
    assert (classes["suite"], classes["n"], round(classes["chance"], 3)) == ("classes", 30, 0.333)
    assert robustness["low"] > robustness["chance"]
    assert "<h2>robustness</h2>" in report.read_text(encoding="utf-8")


def test_the_table_shows_chance_and_interval(cli: Run, tmp_path: Path) -> None:
    code, out, _ = cli("eval", "builtin", "--suite", "typographic")
    assert code == 0
    assert out.splitlines()[0].startswith("typographic")
    assert "chance 50.0" in out and " to " in out and "without the word" in out


def test_list_needs_no_encoder_and_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from twinlens.cli.main import run; run()"
    for arguments in (["--list"], ["builtin", "--suite", "association"]):
        done = subprocess.run(
            [sys.executable, "-c", code, "eval", *arguments],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        )
        assert done.returncode == 0, done.stderr
        assert "association" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eval"], "ENCODER is missing"),
        (["eval", "builtin"], "DATA is missing"),
        (["eval", "builtin", "--suite", "colour"], "choose from composition"),
        (["eval", "builtin", "--suite", "classes"], "needs labels, and no DATA is given"),
        (["eval", "builtin", "x", "--report", "y.html"], "--suite all"),
        (["compare"], "twinlens compare A B DATA"),
        (["compare", "builtin", "x"], "two bundles"),
    ],
)
def test_what_is_missing_is_named(cli: Run, arguments: list[str], message: str) -> None:
    code, _, err = cli(*arguments)
    assert code == 2 and message in err


def test_a_bundle_without_texts_is_asked_about_pictures_alone(
    cli: Run, make_toy: Callable[..., Path], tmp_path: Path
) -> None:
    """`robustness` needs no text; `all` means that suite, and others say why not."""
    bundle, data = make_toy(text=None), write_images(tmp_path / "data", 30)
    code, out, _ = cli("eval", bundle, data, "--suite", "all", "--json")
    assert code == 0 and [found["suite"] for found in json.loads(out)] == ["robustness"]
    code, out, _ = cli("compare", "builtin", bundle, data, "--json")
    assert code == 0
    assert [found["suite"] for found in json.loads(out)["differences"][str(bundle)]] == [
        "robustness"
    ]
    code, _, err = cli("eval", bundle, data, "--suite", "classes")
    assert code == 2 and "no text tower" in err and "--suite robustness" in err


def test_a_run_is_to_be_exported_first(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    code, _, err = cli("eval", tmp_path, "--suite", "relations")
    assert code == 2 and "twinlens export" in err


def test_an_encoder_is_no_better_than_itself(cli: Run, tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", 30)
    names = ("builtin", "builtin", data, "--suite", "classes,robustness")
    code, out, _ = cli("compare", *names, "--json")
    found = json.loads(out)
    assert code == 0
    assert [bundle["dimensions"] for bundle in found["bundles"]] == [256, 256]
    assert all(bundle["images_per_second"] > 0 for bundle in found["bundles"])
    rows = found["differences"]["builtin"]
    assert [(row["suite"], row["change"], row["winner"]) for row in rows] == [
        ("classes", 0.0, ""),
        ("robustness", 0.0, ""),
    ]
    code, out, _ = cli("compare", *names)
    assert code == 0 and out.count("no difference shown") == 2
