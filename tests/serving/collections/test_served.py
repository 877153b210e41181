"""Searches of one collection that wait together: one pass for equal ones, no harm to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twinlens.errors import CollectionError, InputError, NotFoundError, OverloadedError
from twinlens.index.writer import Writer, create_collection
from twinlens.serving.collections import served
from twinlens.serving.collections.search import SearchParams
from twinlens.serving.collections.served import ServedCollection
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.failures import UnavailableError

COUNT = 16
ROWS = np.eye(COUNT, dtype=np.float32)


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[ServedCollection]:
    """Sixteen items, each a direction of its own."""
    create_collection(tmp_path / "c", dim=COUNT)
    with Writer(tmp_path / "c") as writer:
        writer.upsert([f"i{n}" for n in range(COUNT)], ROWS)
    store = CollectionStore()
    yield store.add("c", tmp_path / "c")
    store.close()


@pytest.fixture
def passes(collection: ServedCollection, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many searches each pass over the rows answered."""
    sizes: list[int] = []
    plain = collection.collection.search

    def watch(queries: Any, *rest: Any, **named: Any) -> Any:
        sizes.append(len(queries))
        return plain(queries, *rest, **named)

    monkeypatch.setattr(collection.collection, "search", watch)
    return sizes


def test_equal_searches_share_a_pass_and_each_gets_its_own_answer(
    collection: ServedCollection, passes: list[int]
) -> None:
    async def main() -> None:
        answers = await asyncio.gather(
            *(collection.search(row, SearchParams(k=1 + n % 2)) for n, row in enumerate(ROWS))
        )
        assert [one.hits[0].id for one in answers] == [f"i{n}" for n in range(COUNT)]
        assert [len(one.hits) for one in answers] == [1, 2] * (COUNT // 2)

    asyncio.run(main())
    assert passes == [COUNT // 2, COUNT // 2]


def test_a_pass_takes_no_more_than_its_share(
    collection: ServedCollection, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "MOST_TOGETHER", 5)

    async def main() -> None:
        await asyncio.gather(*(collection.search(row, SearchParams()) for row in ROWS))

    asyncio.run(main())
    assert passes == [5, 5, 5, 1]


def test_a_search_that_cannot_work_fails_alone(collection: ServedCollection) -> None:
    async def main() -> list[Any]:
        asks = [SearchParams(k=1), SearchParams(k=1, filter="((")] * 2
        return await asyncio.gather(
            *(collection.search(ROWS[3], ask) for ask in asks), return_exceptions=True
        )

    good, bad, again, bad_too = asyncio.run(main())
    assert good.hits[0].id == again.hits[0].id == "i3"
    assert isinstance(bad, InputError) and isinstance(bad_too, InputError)


def test_a_client_that_went_away_costs_the_others_nothing(
    collection: ServedCollection, passes: list[int]
) -> None:
    async def main() -> list[Any]:
        gone = asyncio.create_task(collection.search(ROWS[0], SearchParams(k=1)))
        stays = asyncio.create_task(collection.search(ROWS[1], SearchParams(k=1)))
        await asyncio.sleep(0)  # both wait
        gone.cancel()
        return list(await asyncio.gather(gone, stays, return_exceptions=True))

    gone, stays = asyncio.run(main())
    assert isinstance(gone, asyncio.CancelledError)
    assert stays.hits[0].id == "i1"
    assert sum(passes) == 1


def test_a_full_queue_refuses_and_empties_again(
    collection: ServedCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "MOST_WAITING", 3)

    async def main() -> list[Any]:
        first = await asyncio.gather(
            *(collection.search(row, SearchParams(k=1)) for row in ROWS[:5]), return_exceptions=True
        )
        return [*first, await collection.search(ROWS[5], SearchParams(k=1))]

    *three, fourth, fifth, later = asyncio.run(main())
    assert [one.hits[0].id for one in three] == ["i0", "i1", "i2"]
    assert isinstance(fourth, OverloadedError) and isinstance(fifth, OverloadedError)
    assert later.hits[0].id == "i5"


def test_writes_are_seen_by_the_next_search(collection: ServedCollection) -> None:
    async def main() -> Any:
        removed = await collection.write(lambda writer: writer.delete(["i2", "i3"]))
        assert removed == 2
        return await collection.search(ROWS[2], SearchParams(k=COUNT))

    assert {hit.id for hit in asyncio.run(main()).hits} == {
        f"i{n}" for n in range(COUNT) if n not in (2, 3)
    }


def fail_to_read(collection: Any) -> None:
    raise CollectionError(f"{collection.folder} is damaged")


@pytest.mark.parametrize(
    ("action", "expected"),
    [(lambda found: found.get("nobody"), NotFoundError), (fail_to_read, UnavailableError)],
    ids=["no such item", "damaged"],
)
def test_an_error_names_the_collection_and_never_its_folder(
    collection: ServedCollection,
    tmp_path: Path,
    action: Callable[[Any], Any],
    expected: type[Exception],
) -> None:
    with pytest.raises(expected, match="'c'") as caught:
        asyncio.run(collection.read(action))
    assert str(tmp_path) not in str(caught.value)
