"""A server with a small collection, and Chromium for its page; skipped without Chromium."""

from __future__ import annotations

import base64
import io
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageDraw

from tests.attentive import write_attentive_bundle

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
KEY = "open-sesame-42"
HOSTILE = '<img src=x onerror="window.attacked=1"><script>window.attacked=1</script>'


@pytest.fixture(scope="module")  # its event loop blocks others on this thread
def browser() -> Iterator[Any]:
    """The system's Chromium."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        found = None
    if found is None:
        pytest.skip("no browser: install Debian's chromium and PyPI's playwright")
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A tab that fails the test on console errors or requests to other hosts."""
    tab = browser.new_page(viewport={"width": 1200, "height": 900})
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.extend(_complaint(message.text)))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: complaints.extend(_strange(request.url)))
    tab.set_default_timeout(10_000)
    yield tab
    tab.close()
    assert complaints == []


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with the builtin bundle and the collection `shapes`."""
    vision = write_attentive_bundle(tmp_path_factory.mktemp("vision") / "vit")
    bundles = ["builtin", f"vit={vision}"]
    with _Running(tmp_path_factory.mktemp("data"), {}, bundles) as url:
        _fill(url, {})
        yield url


@pytest.fixture(scope="session")
def photo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with the collection `images`: 120 files in two folders."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(120):
        place = folder / ("wide" if number % 2 else "tall") / f"picture {number:03}.jpg"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(draw_photo(number))
    arguments = ["builtin", "--images", str(folder)]
    with _Running(tmp_path_factory.mktemp("photo-data"), {}, arguments) as url:
        yield url


@pytest.fixture(scope="session")
def locked_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same server with an API key."""
    keys = {"TWINLENS_KEYS": f"write:{KEY}"}
    with _Running(tmp_path_factory.mktemp("locked"), keys) as url:
        _fill(url, {"Authorization": f"Bearer {KEY}"})
        yield url


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Drawn images by name."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, content in _draw_all().items():
        (folder / f"{name}.png").write_bytes(content)
    return {name: folder / f"{name}.png" for name in _draw_all()}


class _Running:
    """A server in its own process."""

    def __init__(
        self, data: Path, environment: dict[str, str], bundles: Sequence[str] = ()
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "twinlens.cli.main", "serve", *bundles]
        self.process = subprocess.Popen(
            [*command, "--data", str(data), "--port", str(port), "--set", "watch.drain_notice=0"],
            stderr=subprocess.DEVNULL,
            env={**os.environ, **environment},
        )

    def __enter__(self) -> str:
        end = time.monotonic() + 240
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return self.url
            except httpx.TransportError:
                time.sleep(0.05)
        self.process.kill()
        self.process.wait()
        raise AssertionError("the server was not ready within 240 s")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)


def _fill(url: str, headers: dict[str, str]) -> None:
    metadata: dict[str, dict[str, Any]] = {name: {"kind": "shape"} for name in _draw_all()}
    metadata["blue square"] = {"title": HOSTILE, HOSTILE: HOSTILE, "kind": "hostile"}
    items = [
        {
            "id": name,
            "image": "data:image/png;base64," + base64.b64encode(content).decode(),
            "metadata": metadata[name],
        }
        for name, content in _draw_all().items()
    ]
    with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
        assert client.put("/collections/shapes", json={}).status_code == 201
        answer = client.post("/collections/shapes/items", json={"items": items})
        assert answer.json()["upserted"] == len(items), answer.text


def draw_photo(number: int) -> bytes:
    """Return a JPEG of 1200 pixels with a gradient, a disc, and a camera by its EXIF."""
    width, height = (1200, 800) if number % 2 else (800, 1200)
    hue = (number * 37) % 256
    ramp = Image.linear_gradient("L").resize((width, height))
    image = Image.merge("HSV", [Image.new("L", ramp.size, hue), ramp, ramp]).convert("RGB")
    disc = (200 + number, 200, 500 + number, 500)
    ImageDraw.Draw(image).ellipse(disc, fill=((hue * 3) % 256, 255 - hue, hue))
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "Model A" if number % 3 else "Model B"
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def _draw_all() -> dict[str, bytes]:
    return {
        f"{colour} {shape}": _draw(colour, shape)
        for colour in ("red", "green", "blue")
        for shape in ("circle", "square")
    }


def _draw(colour: str, shape: str) -> bytes:
    image = Image.new("RGB", (96, 96), "white")
    draw = ImageDraw.Draw(image)
    (draw.ellipse if shape == "circle" else draw.rectangle)((12, 12, 84, 84), fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _complaint(text: str) -> list[str]:
    """Return the relevant messages: browsers log refused requests by themselves."""
    is_refusal = "status of 400 (Bad Request)" in text or "status of 403 (Forbidden)" in text
    return [] if is_refusal else [text]


def _strange(url: str) -> list[str]:
    is_ours = url.startswith(("http://127.0.0.1:", "blob:", "data:"))
    return [] if is_ours else [f"asked {url}"]
