"""Fixtures that every room shares: a toy bundle of a few kilobytes, built without torch.

Its towers are simple enough to be computed again in NumPy (`ToyModel`), so tests have a reference
that shares no code with the runtime.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from twinlens.bundle.engine import openvino_session
from twinlens.bundle.golden import write_golden
from twinlens.bundle.manifest import ImageSpec, Manifest, SimilaritySpec, TextSpec
from twinlens.bundle.store import write_bundle
from twinlens.kernels.onnx.attach import build_similarity
from twinlens.kernels.onnx.register import has_cuda_device

# Whether a kernel is interpreted is decided when it is defined, and importing torch may define
# some: so before any test module is imported. Nothing but Triton reads the variable.
if not has_cuda_device():
    os.environ.setdefault("TRITON_INTERPRET", "1")

SIDE = 8
DIM = 16
WORDS = ["[PAD]", "[UNK]", "red", "green", "blue", "a", "photo", "of", "square"]
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@dataclass(frozen=True)
class ToyModel:
    """The toy's weights and its definition in NumPy."""

    image_weight: NDArray[np.float32]  # (3, DIM): from mean colour
    text_weight: NDArray[np.float32]  # (words, DIM): summed over tokens

    def embed_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        colour = np.asarray(pixels, np.float32).mean(axis=(1, 2)) / 255
        return _unit(colour @ self.image_weight)

    def embed_text(self, text: str) -> NDArray[np.float32]:
        ids = [WORDS.index(w) if w in WORDS else 1 for w in text.split()]
        row: NDArray[np.float32] = _unit(self.text_weight[ids].sum(axis=0)[None])[0]
        return row


def draw_square(colour: str, size: int = 12, format: str = "PNG") -> bytes:
    """Return an encoded picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), COLOURS[colour]).save(buffer, format)
    return buffer.getvalue()


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _make_model() -> ToyModel:
    rng = np.random.default_rng(7)
    image = np.linalg.qr(rng.standard_normal((DIM, 3)))[0].T.astype(np.float32)
    text = 0.01 * rng.standard_normal((len(WORDS), DIM)).astype(np.float32)
    for row, word in enumerate(COLOURS):
        text[WORDS.index(word)] = image[row]
    text[0] = 0  # padding adds nothing
    return ToyModel(image, text)


def _save_external(graph: onnx.GraphProto, path: Path) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(
        model,
        path,
        save_as_external_data=True,
        location=f"{path.name}.data",
        size_threshold=0,
    )


def _image_graph(weight: NDArray[np.float32]) -> onnx.GraphProto:
    graph = onnx.parser.parse_graph(
        f"""image (uint8[n,{SIDE},{SIDE},3] pixels) => (float[n,{DIM}] embedding) {{
            floats = Cast<to=1>(pixels)
            axes = Constant<value_ints=[1,2]>()
            mean = ReduceMean<keepdims=0>(floats, axes)
            top = Constant<value=float {{255.0}}>()
            colour = Div(mean, top)
            raw = MatMul(colour, weight)
            embedding = LpNormalization<axis=1, p=2>(raw)
        }}"""
    )
    graph.initializer.append(numpy_helper.from_array(weight, "weight"))
    return graph


def _text_graph(weight: NDArray[np.float32]) -> onnx.GraphProto:
    graph = onnx.parser.parse_graph(
        f"""text (int64[n,l] tokens) => (float[n,{DIM}] embedding) {{
            rows = Gather<axis=0>(weight, tokens)
            axes = Constant<value_ints=[1]>()
            raw = ReduceSum<keepdims=0>(rows, axes)
            embedding = LpNormalization<axis=1, p=2>(raw)
        }}"""
    )
    graph.initializer.append(numpy_helper.from_array(weight, "weight"))
    return graph


def _write_tokenizer(path: Path) -> None:
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(path))


TOY_MANIFEST = Manifest(
    name="toy",
    embedding_dim=DIM,
    matryoshka_dims=(4, 8),
    image=ImageSpec(
        file="image.onnx",
        height=SIDE,
        width=SIDE,
        resize="shortest",
        resize_to=SIDE,
        interpolation="bicubic",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    ),
    text=TextSpec(
        file="text.onnx",
        tokenizer="tokenizer.json",
        tokenizer_kind="huggingface",
        context_length=8,
        cut_to_longest=True,
    ),
    similarity=SimilaritySpec(kind="softmax", scale=20.0, bias=0.0, file="similarity.onnx"),
    templates=("a photo of a {} square",),
    provenance={"method": "toy"},
)


def write_toy_bundle(out: Path, model: ToyModel, manifest: Manifest = TOY_MANIFEST) -> Path:
    """Write the toy bundle to `out`; towers that `manifest` lacks are left out."""

    def fill(folder: Path) -> None:
        similarity = manifest.similarity
        onnx.save(
            build_similarity(similarity.kind, scale=similarity.scale, bias=similarity.bias),
            folder / similarity.file,
        )
        images: list[bytes] = []
        texts: list[str] = []
        image_rows = text_rows = np.zeros((0, DIM), np.float32)
        if manifest.image:
            _save_external(_image_graph(model.image_weight), folder / "image.onnx")
            images = [draw_square(colour) for colour in COLOURS]
            pixels = [np.full((SIDE, SIDE, 3), rgb, np.uint8) for rgb in COLOURS.values()]
            image_rows = model.embed_pixels(np.stack(pixels))
        if manifest.text:
            _save_external(_text_graph(model.text_weight), folder / "text.onnx")
            _write_tokenizer(folder / "tokenizer.json")
            texts = [f"a photo of a {colour} square" for colour in COLOURS] + ["red"]
            text_rows = np.stack([model.embed_text(text) for text in texts])
        write_golden(folder, images, image_rows, texts, text_rows)

    write_bundle(out, manifest, fill)
    return out


_IS_INSTALLED = openvino_session.is_installed


@pytest.fixture(scope="session", autouse=True)
def one_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests from measuring engines, and from the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINLENS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(openvino_session, "is_installed", lambda: False)
        yield


@pytest.fixture
def openvino(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Both engines, and an empty cache, which is returned; skips where OpenVINO is missing."""
    if not _IS_INSTALLED():
        pytest.skip("OpenVINO is not installed: pip install 'twinlens[openvino]'")
    monkeypatch.setattr(openvino_session, "is_installed", _IS_INSTALLED)
    monkeypatch.setenv("TWINLENS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def toy_model() -> ToyModel:
    return _make_model()


@pytest.fixture(scope="session")
def toy_bundle(tmp_path_factory: pytest.TempPathFactory, toy_model: ToyModel) -> Path:
    """A whole toy bundle that no test may change."""
    return write_toy_bundle(tmp_path_factory.mktemp("toy") / "toy", toy_model)


@pytest.fixture
def make_toy(tmp_path: Path, toy_model: ToyModel) -> Callable[..., Path]:
    """Return a function that writes a toy bundle with manifest fields changed."""

    def make(name: str = "toy", **changes: Any) -> Path:
        return write_toy_bundle(tmp_path / name, toy_model, replace(TOY_MANIFEST, **changes))

    return make


@pytest.fixture(scope="session")
def squares() -> dict[str, bytes]:
    """One encoded picture a colour."""
    return {colour: draw_square(colour) for colour in COLOURS}


@pytest.fixture(scope="session")
def postgres_uri() -> Iterator[str]:
    """A PostgreSQL server of its own.

    As root it runs as another user, and every start of pytest closes pytest's folders to others.
    """
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", folder)
        import pgserver

        server = pgserver.get_server(f"{folder}/pg")
        yield server.get_uri()
        server.cleanup()
