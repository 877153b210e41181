"""Each family of models that the export promises, through its bundle, against torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

import twinlens
from twinlens.bundle.encoder import Encoder
from twinlens.bundle.samples import golden_images, golden_texts
from twinlens.bundle.store import verify_bundle

if TYPE_CHECKING:
    from tests.training.export.conftest import Exported


def embed_in_torch(exported: Exported, encoder: Encoder) -> dict[str, NDArray[Any]]:
    """Return what the untouched model gives for the golden inputs, prepared by hand."""
    description, rows = exported.description, {}
    with torch.no_grad():
        if description.image is not None:
            spec = description.image.spec
            pixels = np.stack([encoder.preprocess(image) for image in golden_images()])
            mean, std = (torch.tensor(v).view(3, 1, 1) for v in (spec.mean, spec.std))
            normal = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255.0 - mean) / std
            rows["image"] = F.normalize(description.image.module(normal), dim=-1).numpy()
        if description.text is not None:
            context = description.text.spec.context_length
            ids = encoder.tokenize(golden_texts())
            pad = description.text.spec.pad_id
            padded = torch.tensor([row + [pad] * (context - len(row)) for row in ids])
            rows["text"] = F.normalize(description.text.module(padded), dim=-1).numpy()
    return rows


def smallest_cosine(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    return float((ours.astype(np.float64) * theirs.astype(np.float64)).sum(1).min())


def test_the_bundle_answers_what_torch_does(exported: Exported) -> None:
    encoder = twinlens.open_bundle(exported.folder, device="cpu", threads=1)
    expected = embed_in_torch(exported, encoder)
    found = {"image": encoder.embed_images(golden_images())}
    if exported.description.text is not None:
        found["text"] = encoder.embed_texts(golden_texts())
    assert found.keys() == expected.keys()
    for tower, rows in found.items():
        assert 1 - smallest_cosine(rows, expected[tower]) <= 1e-6, tower
        # The inputs must differ for the agreement to mean anything.
        assert np.abs(rows - rows[0]).max(axis=1)[1:].min() > 1e-4, tower


def test_the_golden_vectors_replay_at_every_precision(exported: Exported) -> None:
    verify_bundle(exported.folder)
    for precision in {variant.precision for variant in exported.manifest.variants}:
        encoder = twinlens.open_bundle(
            exported.folder, precision=precision, device="cpu", threads=1
        )
        assert encoder.check().count >= 7


def test_an_embedding_does_not_depend_on_its_batch(exported: Exported) -> None:
    encoder = twinlens.open_bundle(exported.folder, device="cpu", threads=1)
    together = encoder.embed_images(golden_images())
    alone = np.concatenate([encoder.embed_images([image]) for image in golden_images()])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    if exported.description.text is not None:
        together = encoder.embed_texts(golden_texts())
        alone = np.concatenate([encoder.embed_texts([text]) for text in golden_texts()])
        np.testing.assert_allclose(together, alone, atol=1e-5)


def test_int8_is_written_with_its_cosine_or_dropped_with_a_reason(exported: Exported) -> None:
    for tower in ("image", "text"):
        if getattr(exported.manifest, tower) is None:
            continue
        rows = {v.precision: v for v in exported.manifest.variants if v.tower == tower}
        assert (rows["fp32"].cosine, rows["fp32"].speed) == (1.0, 1.0)
        notes = [note for note in exported.notes if note.startswith(f"{tower}: ")]
        if "int8" in rows:
            least = 0.95 if tower in exported.manifest.provenance.get("calibration", {}) else 0.995
            assert least <= rows["int8"].cosine < 1.0
            assert rows["int8"].speed > 0
        else:
            assert any("int8 dropped" in note or "no int8" in note for note in notes)


def test_attention_rows_are_shares_of_the_picture(exported: Exported) -> None:
    spec = exported.manifest.attention
    encoder = twinlens.open_bundle(exported.folder, device="cpu", threads=1)
    pixels = np.stack([encoder.preprocess(image) for image in golden_images()])
    if spec is None:
        assert exported.description.image is not None
        assert exported.description.image.attention is None
        return
    maps = encoder.attention(pixels)
    assert maps.shape == (len(pixels), spec.heads, spec.rows, spec.columns)
    assert maps.min() >= 0
    np.testing.assert_allclose(maps.sum((2, 3)), 1, atol=1e-5)
