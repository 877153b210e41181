"""`twinlens card`: a bundle gets its card and its domain sign and keeps its revision."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twinlens.bundle.domain.domain_sign import read_sign
from twinlens.bundle.store import read_manifest, verify_bundle, write_extensions
from twinlens.errors import BundleError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bundle(toy_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_bundle, tmp_path / "toy"))


@pytest.fixture
def reds(tmp_path: Path) -> Path:
    """Pictures of the shades of red, in a folder with one broken file."""
    folder = tmp_path / "domain"
    (folder / "reds").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for i in range(220):
        colour = (int(rng.integers(150, 256)), int(rng.integers(0, 40)), int(rng.integers(0, 40)))
        Image.new("RGB", (8, 8), colour).save(folder / "reds" / f"{i}.png")
    (folder / "reds" / "broken.png").write_bytes(b"no picture")
    return folder


def test_a_card_and_a_sign_are_written_and_the_revision_stays(
    cli: Run, bundle: Path, reds: Path, tmp_path: Path
) -> None:
    before = read_manifest(bundle).revision
    card = tmp_path / "card.json"
    card.write_text(json.dumps({"domain": "reds", "not_for": ["blues"]}))
    code, out, err = cli("card", bundle, "--card", card, "--domain", reds)
    assert code == 0, err
    assert "the revision is unchanged" in out
    assert "reds: " in err
    manifest = verify_bundle(bundle)
    assert manifest.revision == before
    sign = read_sign(manifest)
    assert sign is not None
    assert manifest.extensions["domain"]["references"] == {"reds": 110}
    shown = cli("info", bundle)[1]
    assert shown.splitlines()[0] == "toy: for reds; not for blues"
    assert "learned from reds 110" in shown


def test_nothing_to_write_and_faulty_files_are_refused(cli: Run, bundle: Path) -> None:
    assert "nothing to write" in cli("card", bundle)[2]
    code, _, err = cli("card", bundle, "--domain", bundle / "nowhere")
    assert code == 2
    assert "is not a folder of pictures" in err


def test_an_extension_that_would_change_the_revision_is_refused(bundle: Path) -> None:
    before = (bundle / "bundle.json").read_bytes()
    with pytest.raises(BundleError, match=r"unknown to this version|would change the revision"):
        write_extensions(bundle, {"prompts": {"required": True}})
    assert (bundle / "bundle.json").read_bytes() == before
    assert not list(bundle.glob(".bundle*"))
