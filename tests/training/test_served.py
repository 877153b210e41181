"""Train, export, serve: what comes over HTTP is what the training's own evaluation computes."""

from __future__ import annotations

import io
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.family import ALL, small_config, write_images
from twinlens.bundle.model_card import read_card
from twinlens.bundle.store import read_manifest, verify_bundle
from twinlens.training.evaluation.embeddings import RunEmbedder
from twinlens.training.export import SourceOptions, export_encoder, load_source
from twinlens.training.loop.loop import train
from twinlens.training.objectives import find_method
from twinlens.training.runs.run import open_run

COSINE = 0.9999


def train_and_export(method: str, folder: Path, encoder: str = "resnet-tiny") -> tuple[Path, Path]:
    data = write_images(folder / "data", 20)
    train(small_config(method, encoder=encoder), str(data), folder / "run")
    export_encoder(
        load_source(str(folder / "run"), SourceOptions()), folder / "bundle", precisions=("fp32",)
    )
    return folder / "run", folder / "bundle"


def some_images() -> list[bytes]:
    """Return a photograph-like JPEG, a tall PNG and a grey one: all need resizing and cropping."""
    draws = np.random.default_rng(5)
    coarse = Image.fromarray(draws.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    shapes = [("JPEG", (90, 60), "RGB"), ("PNG", (20, 50), "RGB"), ("PNG", (33, 17), "L")]
    found = []
    for kind, size, mode in shapes:
        buffer = io.BytesIO()
        coarse.resize(size, Image.Resampling.BICUBIC).convert(mode).save(buffer, kind)
        found.append(buffer.getvalue())
    return found


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return train_and_export("clip", tmp_path_factory.mktemp("served"), "vit-nano/4")


@pytest.fixture(scope="module")
def url(exported: tuple[Path, Path]) -> Iterator[str]:
    with serve_bundle(exported[1]) as address:
        yield address


@contextmanager
def serve_bundle(bundle: Path) -> Iterator[str]:
    """Serve a bundle in a process of its own, as `mine`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "twinlens.cli.main", "serve", f"mine={bundle}"]
    process = subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(address, process)
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def wait_until_ready(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended"
        try:
            if httpx.get(f"{address}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("not ready within a minute")


def unit(rows: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    found: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = torch.nn.functional.normalize(
        rows, dim=1
    ).numpy()
    return found


def test_served_image_embeddings_are_those_of_training(
    exported: tuple[Path, Path], url: str
) -> None:
    embedder = RunEmbedder(open_run(exported[0]))
    for image in some_images():
        ours = unit(embedder.images(embedder.preprocessor(image)[None]))[0]
        answer = httpx.post(f"{url}/embed", content=image, headers={"content-type": "image/png"})
        assert answer.status_code == 200, answer.text
        served = np.array(answer.json()["embeddings"][0])
        assert float(ours @ served) >= COSINE


def test_a_run_says_what_it_was_trained_on(exported: tuple[Path, Path]) -> None:
    card = read_card(read_manifest(exported[1]))
    assert card is not None
    count = open_run(exported[0]).data["count"]
    assert card.training_data.startswith(f"{count:,} images, fingerprint ")


def test_served_text_embeddings_are_those_of_training(
    exported: tuple[Path, Path], url: str
) -> None:
    embedder = RunEmbedder(open_run(exported[0]))
    for text in ("a red square", "a blue square number 7", "something never seen"):
        ours = unit(embedder.texts([text]))[0]
        body = {"model": "mine", "input": text}
        answer = httpx.post(f"{url}/v1/embeddings", json=body)
        assert answer.status_code == 200, answer.text
        assert float(ours @ np.array(answer.json()["data"][0]["embedding"])) >= COSINE


def test_the_bundle_tells_where_it_comes_from(exported: tuple[Path, Path]) -> None:
    manifest = verify_bundle(exported[1])
    assert manifest.provenance["method"] == "clip" and manifest.provenance["steps"] == 4
    assert manifest.provenance["data"]["count"] == 20
    assert manifest.similarity.kind == "softmax" and manifest.similarity.scale > 1
    assert manifest.attention is not None and manifest.attention.rows == 4
    assert manifest.text is not None and manifest.text.cut_to_longest


@pytest.mark.slow
@pytest.mark.parametrize("method", ALL)
def test_every_method_exports(method: str, tmp_path: Path) -> None:
    _, bundle = train_and_export(method, tmp_path)
    manifest = verify_bundle(bundle)
    assert (manifest.text is not None) == ("text" in find_method(method).paths)
    assert manifest.similarity.kind == ("sigmoid" if method == "siglip" else "softmax")
