"""A fake encoder of colours, and servers around it: most tests of serving need no model."""

from __future__ import annotations

import asyncio
import base64
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from twinlens.bundle.arrays import Pixels
from twinlens.bundle.class_head import ClassHead
from twinlens.bundle.image.image_source import ImageLimits, open_image
from twinlens.bundle.manifest import ImageSpec, Manifest, SimilaritySpec, TextSpec
from twinlens.errors import ImageError
from twinlens.serving.admission.protocol import build_protocol
from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings

SIDE = 8
DIM = 16
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255,) * 3}

_MANIFEST = Manifest(
    name="colours",
    embedding_dim=DIM,
    similarity=SimilaritySpec("softmax", 100.0, 0.0, "similarity.onnx"),
    image=ImageSpec("image.onnx", SIDE, SIDE, "shortest", SIDE, "bicubic", (0, 0, 0), (1, 1, 1)),
    text=TextSpec("text.onnx", "tokenizer.json", "clip", 77),
    matryoshka_dims=(8,),
    templates=("a photo of a {}.", "{}"),
    revision="a" * 64,
)


class FakeEncoder:
    """Embeds by mean colour and by colour words; can be set to fail in several ways."""

    provider = "FakeExecutionProvider"
    engines = MappingProxyType({"image": "fake", "text": "fake"})
    class_heads: Sequence[ClassHead] = ()

    def __init__(self, revision: str = "a" * 64, manifest: Manifest = _MANIFEST) -> None:
        self.manifest = replace(manifest, revision=revision)
        self.batches: list[int] = []
        self.fail_on: Callable[[NDArray[np.uint8]], bool] = lambda pixels: False
        self.nan_on: Callable[[NDArray[np.uint8]], bool] = lambda pixels: False
        self.die = False
        self.gate = threading.Event()  # cleared: encoding hangs
        self.gate.set()
        self.started = threading.Event()
        # Revisions embed differently, so that a mixed answer can be detected.
        self._shift = (int(revision[:2], 16) % 7) * 0.01 if revision[0] != "a" else 0.0

    @property
    def revision(self) -> str:
        return self.manifest.revision

    @property
    def embedding_dim(self) -> int:
        return self.manifest.embedding_dim

    def preprocess(self, image: Any) -> NDArray[np.uint8]:
        try:
            with open_image(image, ImageLimits()) as opened:
                return np.asarray(opened.convert("RGB").resize((SIDE, SIDE)))
        except Exception:
            raise ImageError("the image is damaged") from None

    def batch_size(self, tower: str) -> int:
        return {"image": 8, "text": 32}[tower]

    def in_flight(self, tower: str) -> int:
        return 1

    def encode_pixels(self, pixels: Pixels | Sequence[Pixels]) -> NDArray[np.float32]:
        self._run(len(pixels))
        pixels = np.asarray(pixels)
        if any(self.fail_on(one) for one in pixels):
            raise RuntimeError("secret path /etc/engine")
        rows = np.stack([_embed_colour(one.reshape(-1, 3).mean(0), self._shift) for one in pixels])
        rows[[self.nan_on(one) for one in pixels]] = np.nan
        return rows

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [[256, *text.lower().encode()[:75], 257] for text in texts]

    def encode_tokens(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        self._run(len(tokens))
        return np.stack(
            [self._embed_text(bytes(ids[1:-1]).decode(errors="replace")) for ids in tokens]
        )

    def classify(
        self, embeddings: NDArray[np.float32], bank: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        cosines = embeddings @ bank.T
        if self.manifest.similarity.kind == "sigmoid":
            scale, bias = self.manifest.similarity.scale, self.manifest.similarity.bias
            return 1 / (1 + np.exp(-(cosines * scale + bias))), cosines
        powers = np.exp(100 * (cosines - cosines.max(1, keepdims=True)))
        return powers / powers.sum(1, keepdims=True), cosines

    def attention(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        rng = np.random.default_rng(0)
        maps = rng.random((len(pixels), 2, 4, 4), dtype=np.float32)
        return np.asarray(maps / maps.sum((2, 3), keepdims=True), dtype=np.float32)

    def _run(self, count: int) -> None:
        self.batches.append(count)
        self.started.set()
        self.gate.wait(30)
        if self.die:
            self.die = False
            raise SystemExit  # ends the thread that it is raised in

    def _embed_text(self, text: str) -> NDArray[np.float32]:
        named = [colour for word, colour in COLOURS.items() if word in text]
        mean = np.mean(named, axis=0) if named else np.full(3, 128.0)
        row = _embed_colour(mean, self._shift)
        row[8:] += np.frombuffer(text.encode().ljust(8, b"\0")[:8], np.uint8) / 25600
        return row / np.linalg.norm(row)


def _embed_colour(mean: Any, shift: float) -> NDArray[np.float32]:
    row = np.full(DIM, 0.05 + shift, dtype=np.float32)
    row[:3] += np.asarray(mean, dtype=np.float32) / 255
    row[3] -= 0.2
    return (row / np.linalg.norm(row)).astype(np.float32)


def encode_image(
    colour: Any = (255, 0, 0), size: tuple[int, int] = (20, 16), kind: str = "PNG"
) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def image() -> Callable[..., bytes]:
    """Encoded images of one colour."""
    return encode_image


@pytest.fixture
def uri() -> Callable[..., str]:
    """The same as data URIs."""
    return lambda colour=(255, 0, 0): (
        "data:image/png;base64," + base64.b64encode(encode_image(colour)).decode()
    )


@pytest.fixture(scope="session")
def make_encoder() -> type[FakeEncoder]:
    return FakeEncoder


@pytest.fixture
def encoder() -> Iterator[FakeEncoder]:
    fake = FakeEncoder()
    yield fake
    fake.gate.set()


@pytest.fixture
def make_client(encoder: FakeEncoder) -> Iterator[Callable[..., TestClient]]:
    """Servers around the fake encoder, with custom settings."""
    with ExitStack() as stack:

        def make(settings: ServerSettings | None = None, **options: Any) -> TestClient:
            opener = options.pop("opener", None) or (lambda source, precision: encoder)
            service = Service(settings or ServerSettings(), opener)
            for name in options.pop("names", ["colours"]):
                service.load(name, name)
            app = build_app(service)
            client = TestClient(add_middleware(app), **options)
            client.service = service  # type: ignore[attr-defined]
            return stack.enter_context(client)

        yield make


@pytest.fixture
def client(make_client: Callable[..., TestClient]) -> TestClient:
    return make_client()


class Listening:
    """A server around the fake encoder on its own port, run as `twinlens serve` does."""

    def __init__(self, encoder: FakeEncoder, settings: ServerSettings) -> None:
        self.encoder = encoder
        self.service = Service(settings, lambda source, precision: encoder)
        self.service.load("colours", "colours")
        app = self.app = add_middleware(build_app(self.service))
        config = uvicorn.Config(
            app,
            http=build_protocol(app),
            ws="none",
            port=0,
            log_config=None,
            server_header=False,
            timeout_keep_alive=1,
        )
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.server.run)
        self._thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.port = int(self.server.servers[0].sockets[0].getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def images(self) -> Any:
        """The queue of the image tower."""
        images = self.service.registry.models()[0].images
        assert images is not None
        return images.batcher

    def connect(self) -> socket.socket:
        """Return a connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def stop(self) -> None:
        """Stop it once all requests are answered."""
        self.encoder.gate.set()
        self.server.should_exit = True
        self._thread.join()


@pytest.fixture
def listen(encoder: FakeEncoder) -> Iterator[Callable[[ServerSettings], Listening]]:
    """Servers on ports, for tests that need a socket."""
    with ExitStack() as stack:

        def start(settings: ServerSettings) -> Listening:
            found = Listening(encoder, settings)
            stack.callback(found.stop)
            return found

        yield start


Asking = Callable[..., Any]


@pytest.fixture
def run_server(encoder: FakeEncoder) -> Callable[..., Any]:
    """Run a coroutine against a server in the same event loop, for concurrent requests."""

    def run(
        scenario: Callable[[httpx.AsyncClient, Service], Any],
        settings: ServerSettings | None = None,
        opener: Any = None,
        names: Sequence[str] = ("colours",),
    ) -> Any:
        async def main() -> Any:
            service = Service(
                settings or ServerSettings(), opener or (lambda source, precision: encoder)
            )
            for name in names:
                service.load(name, name)
            app = build_app(service)
            transport = httpx.ASGITransport(add_middleware(app))
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=transport, base_url="http://server") as http,
            ):
                try:
                    return await asyncio.wait_for(scenario(http, service), 30)
                finally:
                    encoder.gate.set()

        return asyncio.run(main())

    return run
