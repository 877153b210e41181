"""Collections are searched by texts, images and vectors; the bundle is opened when needed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import twinlens
from twinlens.errors import ConflictError, InputError, TwinlensError
from twinlens.index.collection import Collection
from twinlens.index.query.queries import QueryBundle, embed_queries
from twinlens.index.stores.opening import open_collection
from twinlens.index.writer import Writer, create_collection

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
NAMES = ("heart.png", "sun.png", "leaf.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of three images, made with the builtin bundle."""
    place = tmp_path_factory.mktemp("queries") / "examples"
    encoder = twinlens.open_bundle("builtin")
    create_collection(
        place,
        dim=encoder.embedding_dim,
        bundle_name=encoder.name,
        bundle_revision=encoder.revision,
        bundle_source="builtin",
    )
    with Writer(place) as writer:
        rows = encoder.embed_images([EXAMPLES / name for name in NAMES])
        writer.upsert(NAMES, rows, [{}] * 3, list(NAMES))
    return place


@pytest.fixture(scope="module")
def collection(folder: Path) -> Collection:
    return open_collection(folder)


def best(collection: Collection, queries: object) -> list[str]:
    return [hits[0].id for hits in collection.search(queries, k=1)]  # type: ignore[arg-type]


def test_a_text_alone_finds_what_it_names(collection: Collection) -> None:
    assert best(collection, "a red heart") == ["heart.png"]


def test_several_texts_are_answered_in_order(collection: Collection) -> None:
    assert best(collection, ["a sun", "a red heart"]) == ["sun.png", "heart.png"]


def test_an_image_is_a_path_bytes_a_pillow_image_or_an_array(collection: Collection) -> None:
    path = EXAMPLES / "leaf.png"
    opened = Image.open(path).convert("RGB")
    for query in (path, path.read_bytes(), opened, np.asarray(opened)):
        assert best(collection, query) == ["leaf.png"]


def test_texts_images_and_vectors_may_be_mixed(collection: Collection) -> None:
    vector = collection.embedding("sun.png")
    found = best(collection, ["a red heart", EXAMPLES / "leaf.png", vector, vector.tolist()])
    assert found == ["heart.png", "leaf.png", "sun.png", "sun.png"]


def test_a_text_is_embedded_as_the_encoder_embeds_a_query(collection: Collection) -> None:
    row = twinlens.open_bundle("builtin").embed_texts(["a red heart"], input_type="query")
    by_row, by_text = collection.search(row, k=3)[0], collection.search("a red heart", k=3)[0]
    assert [hit.id for hit in by_text] == [hit.id for hit in by_row]
    assert [hit.score for hit in by_text] == pytest.approx([hit.score for hit in by_row], abs=1e-6)


def test_groups_are_asked_for_in_the_same_words(collection: Collection) -> None:
    assert collection.search_grouped("a red heart", k=1)[0].id == "heart.png"


def test_vectors_alone_open_no_bundle() -> None:
    def refuse(revision: str) -> None:
        raise AssertionError("the bundle was opened")

    for rows in (np.eye(2, 4), [1.0, 0, 0, 0], [[1, 0, 0, 0], [0, 1, 0, 0]], np.eye(4)[0]):
        given, revision = embed_queries(rows, 4, QueryBundle(lambda: "builtin", refuse))
        assert given.shape[1] == 4
        assert revision is None


def test_a_collection_that_moved_to_another_bundle_has_its_queries_embedded_by_that() -> None:
    moved = [False, False, True, False]  # at each check of the revision

    def check(revision: str) -> None:
        if moved.pop(0):
            raise ConflictError("the collection has another revision")

    bundle = QueryBundle(lambda: "builtin", check)
    first = bundle.open()
    assert bundle.open() is first
    assert bundle.open() is not first
    assert moved == []


def test_a_collection_of_unknown_bundle_says_how_to_name_it(tmp_path: Path) -> None:
    create_collection(tmp_path / "lone", dim=4, bundle_name="gone", bundle_revision="r")
    with pytest.raises(InputError, match="bundle=PATH"):
        open_collection(tmp_path / "lone").search("a dog")


def test_a_bundle_of_another_revision_is_refused(tmp_path: Path) -> None:
    create_collection(
        tmp_path / "other", dim=256, bundle_name="x", bundle_revision="r" * 12, bundle_source="x"
    )
    with pytest.raises(ConflictError, match="built with bundle"):
        open_collection(tmp_path / "other", bundle="builtin").search("a dog")


def test_a_bundle_that_has_moved_can_be_named(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(twinlens.open_bundle("builtin").folder, moved)
    assert best(open_collection(folder, bundle=moved), "a sun") == ["sun.png"]


def test_what_is_neither_is_told_as_such(collection: Collection) -> None:
    with pytest.raises(TwinlensError, match=r"query|image"):
        collection.search([{"text": "a dog"}])  # type: ignore[arg-type]
