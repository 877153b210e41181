"""The compiled rescoring gives NumPy's answers, reads nothing else, and may be missing."""

from __future__ import annotations

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from ctypes import CDLL
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlens.index.storage.item_file import ENTRY
from twinlens.index.vectors import exact, native_rescoring
from twinlens.index.vectors.arrays import Halves
from twinlens.index.vectors.native_rescoring import MOST, RowTable, score_natively

SOURCE = Path(native_rescoring.__file__).with_name("rescoring.c")
Texts = tuple[npt.NDArray[np.uint8], npt.NDArray[np.void]]


def compile_library(folder: Path, *options: str) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("there is no C compiler")
    path = folder / "_rescoring.so"
    command = ["gcc", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", *options]
    subprocess.run([*command, "-shared", "-fPIC", SOURCE, "-o", path], check=True)
    return path


@pytest.fixture(scope="module", params=["as built", "without AVX2"])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CDLL:
    if request.param == "as built":
        found = native_rescoring.load_library()
        if found is None and shutil.which("gcc") is None:
            pytest.skip("there is no C compiler, so the package was built without the library")
    else:
        folder = tmp_path_factory.mktemp("plain")
        compile_library(folder, "-DWITHOUT_AVX2")
        found = native_rescoring._load(folder)
    assert found is not None
    return found


def draw_rows(rng: np.random.Generator, count: int, dim: int) -> Halves:
    rows = rng.standard_normal((count, dim)) * 2.0 ** rng.integers(-20, 4, (count, 1))
    return rows.astype(np.float16)  # some of them subnormal


def write_texts(count: int, longer: int = 0) -> Texts:
    """Return records, each `longer` than the one before."""
    records = [json.dumps([f"i{n}", {"ü": "x" * longer * n}]).encode() for n in range(count)]
    entries = np.zeros(count, ENTRY)
    entries["length"] = [len(record) for record in records]
    entries["start"] = np.cumsum(entries["length"]) - entries["length"]
    return np.frombuffer(b"".join(records), np.uint8), entries


def unit(rng: np.random.Generator, dim: int) -> npt.NDArray[np.float32]:
    query = rng.standard_normal((1, dim)).astype(np.float32)
    return query / np.linalg.norm(query).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), dim=st.integers(1, 70), is_wide=st.booleans())
def test_answers_are_those_of_numpy(library: CDLL, seed: int, dim: int, is_wide: bool) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 80))
    rows, query = draw_rows(rng, count, dim), unit(rng, dim)
    rows[rng.random(count) < 0.2] = rows[0]  # equal scores come in the order of their rows
    chosen = rng.permutation(count)[: int(rng.integers(1, count + 1))]
    k = int(rng.integers(1, min(MOST, len(chosen)) + 1))
    candidates = np.append(chosen, -1)
    found = RowTable(library, rows, *write_texts(count)).answer(
        query, candidates if is_wide else candidates.astype(np.uint32), k, with_rows=True
    )
    assert found is not None
    scores, texts, places = found
    plain = exact._score_halves(query[0], rows, chosen)
    order = np.lexsort((chosen, -plain))[:k]
    size = np.abs(rows[chosen].astype(np.float32)) @ np.abs(query[0])
    np.testing.assert_allclose(scores, plain[order], rtol=0, atol=1e-6 * float(size.max()))
    true = dict(zip(chosen.tolist(), plain.tolist(), strict=True))
    np.testing.assert_allclose(
        [true[place] for place in places], scores, rtol=0, atol=1e-6 * float(size.max())
    )
    assert [(-score, place) for score, place in zip(scores, places, strict=True)] == sorted(
        (-score, place) for score, place in zip(scores, places, strict=True)
    )
    assert [text[0] for text in texts] == [f"i{place}" for place in places]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), dim=st.integers(1, 70))
def test_scores_are_those_of_numpy(library: CDLL, seed: int, dim: int) -> None:
    rng = np.random.default_rng(seed)
    rows, query = draw_rows(rng, 40, dim), unit(rng, dim)[0]
    places = rng.integers(0, 40, 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native_rescoring, "load_library", lambda: library)
        found = score_natively(query, rows, places)
    assert found is not None
    size = np.abs(rows[places].astype(np.float32)) @ np.abs(query)
    plain = exact._score_halves(query, rows, places)
    assert np.all(np.abs(found - plain) <= 1e-6 * size)


def test_fewer_candidates_than_answers_are_told(library: CDLL) -> None:
    rows = np.ones((20, 4), np.float16)
    table = RowTable(library, rows, *write_texts(20))
    query = np.full((1, 4), 0.5, np.float32)
    for none in (-1, 20, 2**31):
        candidates = np.array([3, none, 5], np.int64)
        assert table.answer(query, candidates, 3) is None
        assert table.answer(query, candidates.astype(np.uint32), 3) is None
        found = table.answer(query, candidates, 2, with_rows=True)
        assert found is not None and found[2] == (3, 5)


def test_records_of_any_length_are_copied(library: CDLL) -> None:
    table = RowTable(library, np.ones((30, 4), np.float16), *write_texts(30, longer=5000))
    for _ in range(2):  # with a small desk, then with a large one
        found = table.answer(np.full((1, 4), 0.5, np.float32), np.arange(30), 30)
        assert found is not None
        assert found[1] == [[f"i{n}", {"ü": "x" * 5000 * n}] for n in range(30)]


def test_threads_do_not_share_a_desk(library: CDLL) -> None:
    rng = np.random.default_rng(0)
    rows = draw_rows(rng, 400, 32)
    table = RowTable(library, rows, *write_texts(400, longer=3))
    queries = [unit(rng, 32) for _ in range(40)]
    candidates = np.arange(400)
    alone = [table.answer(query, candidates, 20) for query in queries]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            together = pool.map(lambda query: table.answer(query, candidates, 20), queries)
            assert list(together) == alone


@pytest.mark.parametrize("start", [-1, 10**6, 2**62])
def test_a_table_that_points_outside_its_text_is_not_followed(library: CDLL, start: int) -> None:
    text, entries = write_texts(4)
    entries["start"][2] = start
    table = RowTable(library, np.ones((4, 4), np.float16), text, entries)
    assert table.answer(np.ones((1, 4), np.float32), np.arange(4), 4) is None


def test_rows_outside_of_the_matrix_are_refused() -> None:
    if native_rescoring.load_library() is None:
        pytest.skip("the package was built without the library")
    for place in (-1, 4):
        with pytest.raises(IndexError, match="of 4"):
            score_natively(np.ones(4, np.float32), np.ones((4, 4), np.float16), np.array([place]))


def test_without_the_library_numpy_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows, query = draw_rows(rng, 9, 16), unit(rng, 16)[0]
    compiled = exact.score_rows(query, rows, np.arange(9))
    monkeypatch.setattr(native_rescoring, "load_library", lambda: None)
    plain = exact.score_rows(query, rows, np.arange(9))
    np.testing.assert_allclose(plain, rows.astype(np.float32) @ query, atol=1e-5)
    np.testing.assert_allclose(compiled, plain, atol=1e-5)
    assert native_rescoring.open_row_table(rows, *write_texts(9)) is None


@pytest.mark.parametrize("content", [b"\x7fELF of another machine", b""])
def test_a_library_that_does_not_load_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / "_rescoring.abi3.so").write_bytes(content)
    assert native_rescoring._load(tmp_path) is None
    assert "does not load" in caplog.text


def test_an_older_library_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("there is no C compiler")
    source: Any = tmp_path / "old.c"
    source.write_text("int twinlens_score(void) { return 0; }\n")
    path = tmp_path / "_rescoring.so"
    subprocess.run(["gcc", "-shared", "-fPIC", source, "-o", path], check=True)
    assert native_rescoring._load(tmp_path) is None
    assert "does not load" in caplog.text
