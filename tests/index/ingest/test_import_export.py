"""Export and import: a collection is restored from plain files."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlens.errors import InputError
from twinlens.index.ingest import import_export
from twinlens.index.ingest.import_export import export_parts, import_parts
from twinlens.index.writer import Writer, create_collection


def fill(writer: Writer, mixed: bool = False) -> None:
    rows = np.random.default_rng(0).standard_normal((90, 16))
    metadata = [{"n": n, "tags": ["x"] * (n % 3)} for n in range(90)]
    if mixed:
        metadata[5] = {"n": "five"}
    writer.upsert([f"i{n}" for n in range(90)], rows, metadata)
    writer.delete(["i7"])


@pytest.mark.parametrize("mixed", [False, True])
def test_importing_an_export_restores_it(writer: Writer, tmp_path: Path, mixed: bool) -> None:
    fill(writer, mixed)
    assert export_parts(writer.collection, tmp_path / "out", part=40) == 89
    assert sorted(path.name for path in (tmp_path / "out" / "img_emb").iterdir()) == [
        f"img_emb_{n}.npy" for n in range(3)
    ]
    create_collection(tmp_path / "again", dim=16)
    with Writer(tmp_path / "again", seal_rows=50) as again:
        assert import_parts(again, tmp_path / "out") == 89
        assert {item.id for item in again.catalog.items()} == {
            item.id for item in writer.catalog.items()
        }
        for name in ("i0", "i5", "i89"):
            np.testing.assert_allclose(
                again.collection.embedding(name), writer.collection.embedding(name), atol=1e-3
            )
            stored = again.collection.get(name).metadata
            assert stored.pop("id") == name
            assert stored == writer.collection.get(name).metadata


_STRINGS = st.text(st.characters(codec="utf-8"), max_size=12)
_BREAKS = st.sampled_from(["a\u2028b", "\u0085", "\x0b\x0c\x1c\x1d\x1e", "\r", "\n", "\u2029"])


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(_STRINGS.filter(lambda key: key != "id"), _STRINGS | _BREAKS, max_size=4))
def test_any_metadata_survives_export_to_json_lines_and_import(metadata: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        for name in ("a", "b"):
            create_collection(Path(place) / name, dim=4)
        with Writer(Path(place) / "a") as writer, Writer(Path(place) / "b") as again:
            told: list[dict[str, object]] = [
                {**metadata, "mixed": 1},
                {**metadata, "mixed": "one"},
            ]  # no Parquet column
            writer.upsert(["x", "y\u2028z"], np.eye(2, 4), told)
            export_parts(writer.collection, Path(place) / "out")
            assert len(list((Path(place) / "out/metadata").glob("*.jsonl"))) == 1
            assert import_parts(again, Path(place) / "out") == 2
            for item in writer.catalog.items():
                held = again.collection.get(item.id).metadata
                assert held == {**item.metadata, "id": item.id}


def test_embeddings_without_metadata_get_ids_from_their_position(
    tmp_path: Path, writer: Writer
) -> None:
    np.save(tmp_path / "emb_0.npy", np.ones((2, 16), np.float16))
    assert import_parts(writer, tmp_path) == 2
    assert {item.id for item in writer.catalog.items()} == {"emb_0/0", "emb_0/1"}


def test_a_folder_with_image_and_text_embeddings_is_imported_by_its_images(
    tmp_path: Path, writer: Writer, rows: Callable[[int], npt.NDArray[np.float32]]
) -> None:
    """The layout of clip-retrieval's inference: padded numbers, texts beside the images."""
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    for name in ("img_emb", "text_emb", "metadata"):
        (tmp_path / name).mkdir()
    images = rows(5)
    for number, part in enumerate((slice(0, 3), slice(3, 5))):
        np.save(tmp_path / f"img_emb/img_emb_0{number}.npy", images[part].astype(np.float16))
        np.save(tmp_path / f"text_emb/text_emb_0{number}.npy", rows(len(images[part])))
        metadata = [{"image_path": f"p/{n}.jpg", "caption": f"c{n}"} for n in range(5)[part]]
        parquet.write_table(
            pyarrow.Table.from_pylist(metadata), tmp_path / f"metadata/metadata_0{number}.parquet"
        )
    assert import_parts(writer, tmp_path) == 5
    for n in range(5):
        hit = writer.collection.search(images[n], 1)[0][0]
        assert (hit.id, hit.metadata["caption"]) == (f"p/{n}.jpg", f"c{n}")


def test_rows_and_metadata_must_agree(tmp_path: Path, writer: Writer) -> None:
    np.save(tmp_path / "e_0.npy", np.ones((2, 16), np.float32))
    (tmp_path / "m_0.jsonl").write_text(json.dumps({"id": "a"}) + "\n")
    with pytest.raises(InputError, match="has 2 rows but"):
        import_parts(writer, tmp_path)
    (tmp_path / "m_0.jsonl").write_text('{"id": "a"}\n{"id": \n')
    with pytest.raises(InputError, match=r"m_0\.jsonl line 2: not JSON .*; correct it"):
        import_parts(writer, tmp_path)
    with pytest.raises(InputError, match=r"holds no \.npy"):
        import_parts(writer, tmp_path / "nothing")
    with pytest.raises(InputError, match="not empty"):
        export_parts(writer.collection, tmp_path)
    assert import_export.ID_COLUMNS[0] == "id"
