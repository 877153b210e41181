"""A bundle behind MTEB's interface: the rows that it serves, fused as MIEB fuses them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import twinlens
from twinlens.bundle.arrays import Rows

pytestmark = pytest.mark.scale


def unit(rows: Rows) -> Rows:
    normed: Rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return normed


def test_mteb_gets_the_rows_that_the_bundle_serves(
    toy_bundle: Path, squares: dict[str, bytes]
) -> None:
    from mteb.models.models_protocols import EncoderProtocol

    from twinlens.mteb import BundleEncoder

    encoder = BundleEncoder(toy_bundle)
    assert isinstance(encoder, EncoderProtocol)
    direct = twinlens.open_bundle(toy_bundle)
    images = [Image.open(io.BytesIO(raw)) for raw in squares.values()]
    texts = [f"a photo of a {colour} square" for colour in squares]
    rows = encoder.encode([{"image": images[:2]}, {"image": images[2:]}])
    np.testing.assert_array_equal(rows, direct.embed_images(list(squares.values())))
    queries = encoder.encode([{"text": texts}])
    np.testing.assert_array_equal(queries, direct.embed_texts(texts, input_type="query"))
    both = encoder.encode([{"image": images, "text": texts}])
    np.testing.assert_allclose(both, unit(rows + queries), atol=1e-6)
    assert encoder.similarity(queries, rows).argmax(dim=1).tolist() == [0, 1, 2]
    pairs = encoder.similarity_pairwise(queries, rows).numpy()
    np.testing.assert_allclose(pairs, (queries * rows).sum(axis=1), atol=1e-6)
    meta = encoder.mteb_model_meta
    assert (meta.name, meta.revision) == ("twinlens/toy", direct.revision)
    assert meta.modalities == ["image", "text"]
