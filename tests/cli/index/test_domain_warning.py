"""A build warns when its pictures are not of a kind that the model knows; it keeps the verdict."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from twinlens.bundle.domain.domain_sign import EXTENSION, DomainSign
from twinlens.bundle.encoder import open_bundle
from twinlens.bundle.store import read_manifest, write_extensions
from twinlens.index.ingest.domain_check import check_domain
from twinlens.index.writer import Writer

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bundle(toy_bundle: Path, tmp_path: Path, squares: dict[str, bytes]) -> Path:
    """The toy, which knows anything but blue."""
    folder = Path(shutil.copytree(toy_bundle, tmp_path / "toy"))
    (blue,) = open_bundle(folder).embed_images([squares["blue"]])
    sign = DomainSign(blue, 0.0, ((1, 0.9), (4, 0.6)))
    write_extensions(folder, {EXTENSION: sign.to_extension(), "card": {"domain": "warm colours"}})
    return folder


def corpus(folder: Path, squares: dict[str, bytes], *colours: str) -> Path:
    folder.mkdir(exist_ok=True)
    for i, colour in enumerate(colours):
        (folder / f"{i}-{colour}.png").write_bytes(squares[colour])
    return folder


def test_pictures_that_the_model_does_not_know_raise_a_warning_with_a_command(
    cli: Run, bundle: Path, squares: dict[str, bytes], tmp_path: Path
) -> None:
    blues = corpus(tmp_path / "blues", squares, "blue", "blue", "red", "blue")
    code, out, err = cli(
        "index", "build", blues, "-o", tmp_path / "c", "--bundle", bundle, "--json"
    )
    assert code == 0, err
    assert "warning: these 4 pictures look unlike what model 'toy' knows (warm colours)" in err
    assert f"twinlens index build {blues} -o {tmp_path / 'c'}-clip --bundle hf:" in err
    domain = json.loads(out)["domain"]
    assert (domain["far"], domain["pictures"], domain["limit"]) == (True, 4, 0.6)
    assert "look unlike" in cli("index", "stats", tmp_path / "c")[1]


def test_familiar_pictures_raise_none_and_a_later_build_takes_a_warning_back(
    cli: Run, bundle: Path, squares: dict[str, bytes], tmp_path: Path
) -> None:
    pictures = corpus(tmp_path / "pictures", squares, "blue", "blue")
    build = ("index", "build", pictures, "-o", tmp_path / "c", "--bundle", bundle, "--json")
    assert "warning" in cli(*build)[2]
    corpus(pictures, squares, *("red", "green") * 3)
    _, out, err = cli(*build)
    assert "warning" not in err
    assert json.loads(out)["domain"]["far"] is False
    assert "look unlike" not in cli("index", "stats", tmp_path / "c")[1]


def test_the_same_verdict_again_commits_nothing(
    cli: Run, bundle: Path, squares: dict[str, bytes], tmp_path: Path
) -> None:
    pictures = corpus(tmp_path / "pictures", squares, "red", "green")
    cli("index", "build", pictures, "-o", tmp_path / "c", "--bundle", bundle)
    with Writer(tmp_path / "c") as writer:
        before = writer.collection.head.epoch
        assert check_domain(writer, read_manifest(bundle)) is None
        assert writer.catalog.head().epoch == before


def test_a_large_collection_is_judged_by_a_sample(
    cli: Run, bundle: Path, squares: dict[str, bytes], tmp_path: Path
) -> None:
    pictures = corpus(tmp_path / "pictures", squares, *["blue"] * 9)
    args = ("index", "build", pictures, "-o", tmp_path / "c", "--bundle", bundle, "--json")
    assert json.loads(cli(*args)[1])["domain"]["pictures"] == 4


def test_a_model_without_a_sign_leaves_no_verdict(
    cli: Run, toy_bundle: Path, squares: dict[str, bytes], tmp_path: Path
) -> None:
    pictures = corpus(tmp_path / "pictures", squares, "blue")
    args = ("index", "build", pictures, "-o", tmp_path / "c", "--bundle", toy_bundle, "--json")
    assert json.loads(cli(*args)[1])["domain"] is None


def test_classify_warns_too(
    cli: Run, bundle: Path, squares: dict[str, bytes], tmp_path: Path
) -> None:
    pictures = corpus(tmp_path / "pictures", squares, "blue", "red")
    classify = ("classify", "--bundle", bundle, "--classes", "red,blue")
    assert "this picture looks unlike" in cli(*classify, pictures / "0-blue.png")[2]
    assert "warning" not in cli(*classify, pictures / "1-red.png")[2]
