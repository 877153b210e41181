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


def test_a_zero_shot_task_of_mteb_scores_what_the_bundle_answers(
    toy_bundle: Path, squares: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MTEB's own CIFAR10 task, on pictures that lie here: prompts, scores and result are MTEB's."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets
    import mteb

    from twinlens.mteb import BundleEncoder

    names = [f"{colour} square" for colour in squares]
    wrong = [*range(len(names)), 0]  # the last label is wrong, so that the score is not 1
    images = [*squares.values(), squares["green"]]
    features = datasets.Features(
        {"img": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    )
    rows = {"img": [{"bytes": raw, "path": None} for raw in images], "label": wrong}
    task = mteb.get_task("CIFAR10ZeroShot")
    task.dataset = datasets.DatasetDict({"test": datasets.Dataset.from_dict(rows, features)})
    task.data_loaded = True
    told = mteb.evaluate(BundleEncoder(toy_bundle), task, cache=None, show_progress_bar=False)
    scores = told.task_results[0].scores["test"][0]
    direct = twinlens.open_bundle(toy_bundle).zero_shot(
        images, names, templates=["a photo of a {}."]
    )
    assert scores["accuracy"] == 0.75
    assert direct.argmax(axis=1).tolist() == [0, 1, 2, 1]


def test_a_retrieval_task_of_mteb_finds_the_pictures_of_texts(
    toy_bundle: Path, squares: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets
    import mteb

    from twinlens.mteb import BundleEncoder

    names = list(squares)
    images = [{"bytes": squares[name], "path": None} for name in names]
    corpus = datasets.Dataset.from_dict(
        {"id": names, "image": images},
        datasets.Features({"id": datasets.Value("string"), "image": datasets.Image()}),
    )
    texts = [f"a photo of a {name} square" for name in names]
    queries = datasets.Dataset.from_dict({"id": [f"q{name}" for name in names], "text": texts})
    task = mteb.get_task("Flickr30kT2IRetrieval")
    wanted = {f"q{name}": {name: 1} for name in names}
    split = {"corpus": corpus, "queries": queries, "relevant_docs": wanted, "top_ranked": None}
    task.dataset = {"default": {"test": split}}
    task.data_loaded = True
    told = mteb.evaluate(BundleEncoder(toy_bundle), task, cache=None, show_progress_bar=False)
    assert told.task_results[0].scores["test"][0]["recall_at_1"] == 1
