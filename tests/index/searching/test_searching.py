"""Hybrid, diverse, paged and deduplicated searches, and what they say of themselves."""

from __future__ import annotations

import itertools
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twinlens.bundle.arrays import Rows
from twinlens.bundle.encoder import open_bundle
from twinlens.errors import InputError
from twinlens.index.maintenance import IndexPlan, optimise
from twinlens.index.searching.request import SearchAnswer, SearchOptions
from twinlens.index.searching.searching import search_collection
from twinlens.index.writer import Writer, create_collection

Make = Callable[[int], Rows]
COLOURS = ("red", "green", "blue", "grey")


@pytest.fixture
def filled(writer: Writer, rows: Make) -> Writer:
    """Videos of ten frames; every seventh caption has a word of its own."""
    writer.upsert(
        [f"i{n}" for n in range(200)],
        rows(200),
        [
            {
                "video": f"v{n // 10}",
                "n": n,
                "caption": f"a {COLOURS[n % 4]} thing" + (f" word{n}" if n % 7 == 0 else ""),
            }
            for n in range(200)
        ],
    )
    writer.index_captions()
    return writer


def ask(writer: Writer, query: Rows, **options: Any) -> SearchAnswer:
    return search_collection(writer.collection, query, SearchOptions(**options, explain=True))


def ids(answer: SearchAnswer) -> list[str]:
    return [hit.id for hit in answer.hits]


def test_without_options_it_is_the_plain_search(filled: Writer, rows: Make) -> None:
    for query in rows(20):
        plain = filled.collection.search(query, 7, filter="n >= 50")[0]
        answer = ask(filled, query, k=7, filter="n >= 50")
        assert list(answer.hits) == plain
        assert [one["vector"]["rank"] for one in answer.reasons] == list(range(1, 8))


def test_pages_join_to_the_whole(filled: Writer, rows: Make) -> None:
    query = rows(1)[0]
    whole = ids(ask(filled, query, k=60))
    pages = [ids(ask(filled, query, k=9, offset=at)) for at in range(0, 60, 9)]
    assert list(itertools.chain(*pages))[:60] == whole
    assert ids(ask(filled, query, k=5, offset=199)) == ids(ask(filled, query, k=200))[199:]
    assert ids(ask(filled, query, k=5, offset=200)) == []


def test_a_threshold_is_a_range_of_cosines(filled: Writer, rows: Make) -> None:
    query = rows(1)[0]
    whole = filled.collection.search(query, 200)[0]
    lowest = whole[30].score
    assert ids(ask(filled, query, k=200, threshold=lowest)) == [hit.id for hit in whole[:31]]


def test_words_find_what_the_embedding_does_not(filled: Writer, rows: Make) -> None:
    query = filled.collection.embedding("i5")
    answer = ask(filled, query, words="word70", k=3)
    assert set(ids(answer)[:2]) == {"i5", "i70"}
    reason = dict(zip(ids(answer), answer.reasons, strict=True))
    assert reason["i5"]["words"] is None
    assert reason["i5"]["vector"]["rank"] == reason["i70"]["words"]["rank"] == 1
    assert ids(ask(filled, query, words="word70", k=1, balance=1.0)) == ["i70"]
    assert ids(ask(filled, query, words="word70", k=1, balance=0.0)) == ["i5"]
    assert ids(ask(filled, query, words="word70", k=1, balance=0.9, fusion="weights")) == ["i70"]


def test_ranks_are_joined_by_their_reciprocals(filled: Writer, rows: Make) -> None:
    answer = ask(filled, rows(1)[0], words="blue", k=20)
    for hit, reason in zip(answer.hits, answer.reasons, strict=True):
        parts = [0.5 / (60 + one["rank"]) for one in reason.values() if one]
        assert hit.score == pytest.approx(sum(parts))


def test_a_filter_holds_for_words_too(filled: Writer, rows: Make) -> None:
    answer = ask(filled, rows(1)[0], words="word70 word77", k=20, filter="n = 77 or n < 5")
    assert sorted(ids(answer)) == ["i0", "i1", "i2", "i3", "i4", "i77"]
    deep = ask(filled, rows(1)[0], words="thing", k=5, filter="n >= 195", balance=1.0)
    assert sorted(ids(deep)) == [f"i{n}" for n in range(195, 200)]
    assert all(reason["words"] for reason in deep.reasons)


def test_hybrid_sees_what_was_written_last(filled: Writer, rows: Make) -> None:
    filled.upsert(["late"], rows(1), [{"caption": "a zeppelin"}])
    assert ids(ask(filled, rows(1)[0], words="zeppelin", k=1, balance=1.0)) == ["late"]
    filled.delete(["late"])
    assert "late" not in ids(ask(filled, rows(1)[0], words="zeppelin", k=200))


def test_of_each_value_the_best_item_answers(filled: Writer, rows: Make) -> None:
    for query in rows(5):
        whole = filled.collection.search(query, 200)[0]
        best: dict[str, str] = {}
        for hit in whole:
            best.setdefault(hit.metadata["video"], hit.id)
        assert ids(ask(filled, query, k=20, one_per="video")) == list(best.values())
        assert ids(ask(filled, query, k=4, offset=3, one_per="video")) == list(best.values())[3:7]
    assert len(ids(ask(filled, rows(1)[0], k=10, one_per="no such field"))) == 10


def test_diversity_spreads_the_hits(writer: Writer, rows: Make) -> None:
    """Ten near-copies of the best item: the plain answer is all copies, the diverse one is not."""
    table = rows(40)
    noise = 0.02 * rows(10)
    writer.upsert([f"copy{n}" for n in range(10)], table[0] + noise)
    writer.upsert([f"i{n}" for n in range(1, 40)], table[1:])
    plain = ids(ask(writer, table[0], k=8))
    assert all(name.startswith("copy") for name in plain)
    diverse = ids(ask(writer, table[0], k=8, diversity=0.5))
    assert diverse[0] == plain[0]
    assert sum(name.startswith("copy") for name in diverse) == 1
    assert ids(ask(writer, table[0], k=8, diversity=0.0)) == plain


def test_an_explanation_names_the_path_and_its_recall(folder: Path, rows: Make) -> None:
    with Writer(folder) as writer:
        writer.upsert([f"i{n}" for n in range(6000)], rows(6000), [{"n": n} for n in range(6000)])
        optimise(writer, IndexPlan("ivf-sq8", 0.9))
        writer.upsert(["late"], rows(1))
        query = rows(1)[0]
        told = ask(writer, query).path
        segment, delta = told["parts"]
        view = writer.collection.snapshot().parts[0]
        assert view.ann_index is not None
        params = view.ann_index.tuning.params
        assert (segment["path"], segment["index"]) == ("index", "ivf-sq8")
        assert segment["probed"] == min(params.probe, segment["lists"])
        assert segment["reranked"] == 10 * params.expansion
        assert (delta["part"], delta["path"], delta["scored"]) == ("delta", "exact", 1)
        measured = view.ann_index.tuning.recall["image"].value
        assert told["recall"]["image"] == pytest.approx(measured, abs=1e-3)
        assert told["recall"]["text"] is None
        exact = ask(writer, query, exact=True).path
        assert exact["parts"][0] == {
            "part": view.segment.name,
            "rows": 6000,
            "path": "exact",
            "scored": 6000,
        }
        assert exact["recall"] == {"image": 1.0, "text": 1.0}
        narrow = ask(writer, query, filter="n < 50").path
        assert (narrow["parts"][0]["path"], narrow["parts"][0]["scored"]) == ("exact", 50)
        wide = ask(writer, query, filter="n < 4000").path
        if wide["parts"][0]["path"] == "index":
            assert (wide["recall"]["image"], wide["tuned_to"]) == (None, 0.99)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"k": 0}, "k"),
        ({"offset": -1}, "offset"),
        ({"k": 9000, "offset": 1001}, "offset"),
        ({"fusion": "votes"}, "fusion"),
        ({"balance": 1.5}, "balance"),
        ({"diversity": -0.1}, "diversity"),
    ],
)
def test_a_request_that_means_nothing_is_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as told:
        SearchOptions(**options)
    assert told.value.field == field


SYLLABLES = ("kor", "ven", "au", "tre", "mil", "zan", "po", "lud", "ri", "sto", "qui", "bra")
STYLES = {"noto", "fluent_color", "emojitwo", "blobmoji"}


@pytest.mark.slow
@pytest.mark.parametrize("named", [0.3, 0.6])
def test_hybrid_beats_both_of_its_parts_on_captions_with_rare_words(
    tmp_path: Path, named: float
) -> None:
    """Captions name a made-up place, which no encoder knows, and only some name what is shown."""
    root = os.environ.get("TWINLENS_DATA")
    if not root:
        pytest.skip("TWINLENS_DATA is not set")
    rng, encoder = random.Random(0), open_bundle("builtin")
    names = sorted({"".join(rng.choices(SYLLABLES, k=3)) for _ in range(200)})[:80]
    with zipfile.ZipFile(Path(root) / "emoji64" / "train.zip") as archive:
        lines = archive.read("index.jsonl").decode().splitlines()
        held = [row for row in map(json.loads, lines) if row["style"] in STYLES]
        short = [row for row in held if len(row["label"].split()) <= 2]
        rng.shuffle(short)
        items = [(row["file"], row["label"], rng.choice(names)) for row in short[:2000]]
        table = encoder.embed_images([archive.read(file) for file, _, _ in items])
    captions = [f"{x if rng.random() < named else 'taken'} in {place}" for _, x, place in items]
    create_collection(tmp_path / "c", dim=encoder.embedding_dim)
    with Writer(tmp_path / "c") as writer:
        writer.upsert([one[0] for one in items], table, [{"caption": one} for one in captions])
        writer.index_captions()
        asked = rng.sample(items, 200)
        texts = [f"{label} in {place}" for _, label, place in asked]
        scores: dict[str, list[float]] = {"vector": [], "words": [], "ranks": [], "weights": []}
        for one, text, row in zip(asked, texts, encoder.embed_texts(texts), strict=True):
            requests = {
                "vector": SearchOptions(),
                "words": SearchOptions(words=text, balance=1.0),
                "ranks": SearchOptions(words=text),
                "weights": SearchOptions(words=text, fusion="weights"),
            }
            for name, request in requests.items():
                found = ids(search_collection(writer.collection, row, request))
                scores[name].append(ndcg(found, one, items))
    mean = {name: float(np.mean(values)) for name, values in scores.items()}
    assert min(mean["ranks"], mean["weights"]) > max(mean["vector"], mean["words"]), mean


def ndcg(found: list[str], asked: tuple[str, str, str], items: list[tuple[str, str, str]]) -> float:
    """Return the nDCG@10: 3 for the thing at the place, 1 for the thing elsewhere."""
    gains = {
        file: (label == asked[1]) * (3 if place == asked[2] else 1) for file, label, place in items
    }
    ideal = sorted(gains.values(), reverse=True)[:10]

    def discount(values: list[int]) -> float:
        return sum(value / float(np.log2(at + 2)) for at, value in enumerate(values))

    return discount([gains[name] for name in found[:10]]) / discount(ideal)
