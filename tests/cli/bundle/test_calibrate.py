"""`twinlens calibrate`: a bundle learns what its cosines are worth and keeps its revision."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twinlens.bundle.calibration.calibration import read_calibration
from twinlens.bundle.store import read_manifest, verify_bundle
from twinlens.cli.bundle.calibrate import calibrate_export, find_calibration

Run = Callable[..., tuple[int, str, str]]
SHADES = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture
def bundle(toy_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_bundle, tmp_path / "toy"))


@pytest.fixture
def shades(tmp_path: Path) -> Path:
    """Pictures of the shades of three colours, a folder for each."""
    folder, rng = tmp_path / "shades", np.random.default_rng(1)
    for colour, rgb in SHADES.items():
        (folder / colour).mkdir(parents=True)
        for i in range(20):
            shade = tuple(int(abs(c - rng.integers(60))) for c in rgb)
            Image.new("RGB", (8, 8), shade).save(folder / colour / f"{i}.png")
    return folder


def test_a_calibration_is_written_and_shown_and_the_revision_stays(
    cli: Run, bundle: Path, shades: Path, pictures: dict[str, Path]
) -> None:
    before = read_manifest(bundle).revision
    code, out, err = cli("calibrate", bundle, shades)
    assert code == 0, err
    assert "by 60 pictures of shades" in out and "the revision is unchanged" in out
    manifest = verify_bundle(bundle)
    assert manifest.revision == before
    calibration = read_calibration(manifest)
    assert calibration is not None
    assert calibration.source == {"shades": {"texts": "labels", "pictures": 60, "different": 3}}
    assert "pictures of none of 2 classes" in cli("info", bundle)[1]
    ask = ("classify", pictures["blue"], "-b", bundle, "--json")
    (known,) = json.loads(cli(*ask, "-c", "red,blue")[1])["data"]
    assert known["none_of_these"] is False and known["labels"][0]["calibrated"] > 0.8
    (strange,) = json.loads(cli(*ask, "-c", "red,green")[1])["data"]
    assert strange["none_of_these"] is True
    assert "none of these" in cli(*ask[:-1], "-c", "red,green")[1].splitlines()[0]


def test_a_search_says_when_nothing_matches(
    cli: Run, bundle: Path, shades: Path, tmp_path: Path
) -> None:
    assert cli("calibrate", bundle, shades)[0] == 0
    out = tmp_path / "shades.index"
    assert cli("index", "build", shades / "red", "-o", out, "--bundle", bundle)[0] == 0
    code, text, err = cli("search", out, "red", "--json")
    assert code == 0 and json.loads(text)[0]["calibrated"] > 0.5
    assert "nothing here matches" not in err
    assert "nothing here matches" in cli("search", out, "blue")[2]


def test_data_that_say_nothing_are_refused(cli: Run, bundle: Path, shades: Path) -> None:
    code, _, err = cli("calibrate", bundle, shades / "red")
    assert code == 2 and "neither captions nor two labels" in err
    code, _, err = cli("calibrate", bundle, shades, "--limit", 12)
    assert code == 2 and "at least 20" in err


def test_an_export_calibrates_where_its_data_allow(bundle: Path, shades: Path) -> None:
    assert "by 60 pictures of shades" in calibrate_export(bundle, shades)
    assert read_calibration(read_manifest(bundle)) is not None
    told = calibrate_export(bundle, shades / "red")
    assert told.startswith("probabilities: not calibrated, red has neither captions")


def test_an_image_tower_alone_has_no_probabilities(
    make_toy: Callable[..., Path], shades: Path
) -> None:
    assert "a text tower" in calibrate_export(make_toy("blind", text=None), shades)


def test_an_export_of_a_run_is_calibrated_by_what_it_was_validated_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    for settings, found in (({"eval": "held-out.zip"}, Path("held-out.zip")), ({"eval": ""}, None)):
        (run / "config.json").write_text(json.dumps({"settings": settings}))
        assert find_calibration(str(run), None) == found
        assert find_calibration(str(run), tmp_path / "mine") == tmp_path / "mine"
    assert find_calibration("timm:test_vit", None) is None


@pytest.mark.slow
def test_a_validated_run_becomes_a_calibrated_bundle(
    cli: Run, shades: Path, tmp_path: Path
) -> None:
    small = ("encoder=vit-nano/8", "image_size=16", "steps=2", "batch=8", "doctor=false")
    sets = [part for name in (*small, f"eval={shades}") for part in ("--set", name)]
    lessons, run = tmp_path / "lessons", tmp_path / "run"
    lessons.mkdir()
    for shade in range(20):
        Image.new("RGB", (8, 8), (12 * shade, 9, 99)).save(lessons / f"{shade}.png")
        (lessons / f"{shade}.txt").write_text(f"a square of {shade} parts red")
    code, _, err = cli("train", "clip", lessons, "--out", run, *sets)
    assert code == 0, err
    code, _, err = cli("export", run, "-o", tmp_path / "bundle", "--precisions", "fp32")
    assert code == 0 and "by 60 pictures of shades" in err, err
    calibration = read_calibration(read_manifest(tmp_path / "bundle"))
    assert calibration is not None and set(calibration.source) == {"shades"}
