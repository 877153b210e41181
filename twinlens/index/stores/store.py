"""What a vector store has to do to keep a collection: the contract of every adapter.

A store keeps items under ids that it holds once. Each write gives an item a new number (`rid`), so
that numbers tell the order of writing. What must stay true: a write that returned is found by every
later search, through any connection; `search` returns exactly min(k, matches) items.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

from twinlens.errors import ConflictError, InputError, StoreError
from twinlens.index.query.filters import Filter
from twinlens.index.storage.records import Head, Item
from twinlens.index.vectors.arrays import Floats, Rids

Scored = tuple[Item, float]  # an item with its cosine to a query


@dataclass(frozen=True)
class StoreState:
    """What a store tells of its collection: whose embeddings it holds, and how it is searched.

    `changed` counts the items written and deleted since the note `tuning` was written.
    """

    head: Head
    count: int
    fields: frozenset[str] = frozenset()
    notes: Mapping[str, Any] = field(default_factory=dict)
    has_index: bool = False
    changed: int = 0


class VectorStore(ABC):
    """One collection in a store."""

    label: ClassVar[str]  # the store's name, as messages say it
    efforts: ClassVar[tuple[int, ...]] = ()  # of its index, from quick to thorough

    def __init__(self, place: str) -> None:
        self.place = place  # its address, without a password

    @abstractmethod
    def read_state(self) -> StoreState:
        """Return the current state."""

    @abstractmethod
    def write_note(self, key: str, value: Any) -> None:
        """Store a named value of JSON with the collection; None removes it."""

    @abstractmethod
    def search(
        self, queries: Floats, k: int, tree: Filter | None, effort: int | None
    ) -> list[list[Scored]]:
        """Return the k best items of each query, best first; without `effort` by comparing all."""

    @abstractmethod
    def count(self, tree: Filter | None) -> int:
        """Return how many items satisfy a filter."""

    @abstractmethod
    def by_rid(self, rids: Sequence[int]) -> dict[int, Item]:
        """Return the items of these numbers; unknown ones are omitted."""

    @abstractmethod
    def by_id(self, ids: Sequence[str]) -> dict[str, Item]:
        """Return the items of these ids; unknown ones are omitted."""

    @abstractmethod
    def embeddings(self, rids: Sequence[int]) -> dict[int, Floats]:
        """Return the embeddings of these numbers; unknown ones are omitted."""

    @abstractmethod
    def scroll(self, tree: Filter | None, after: int, limit: int) -> list[Item]:
        """Return the first `limit` items of numbers above `after`, ascending."""

    @abstractmethod
    def rids(self, tree: Filter | None) -> Rids:
        """Return the numbers of all items that satisfy a filter, ascending."""

    @abstractmethod
    def upsert(
        self,
        ids: Sequence[str],
        rows: Floats,
        metadata: Sequence[dict[str, Any]],
        versions: Sequence[str],
    ) -> None:
        """Insert items of different ids, replacing those that are there."""

    @abstractmethod
    def delete(self, ids: Sequence[str]) -> int:
        """Delete items; return how many there were."""

    @abstractmethod
    def build_index(self) -> None:
        """Build the approximate index of the embeddings, if there is none."""

    @abstractmethod
    def measure_bytes(self) -> int:
        """Return the bytes that the collection takes; 0 where the store does not tell."""

    @abstractmethod
    def close(self) -> None:
        """Release connections."""


def check_head(place: str, stored: Head, wanted: Head) -> None:
    """Refuse to open a store that another bundle, or one of another dimension, has filled."""
    if (stored.bundle_revision, stored.dim) != (wanted.bundle_revision, wanted.dim):
        raise ConflictError(
            f"{place} holds embeddings of bundle {stored.bundle_name!r} revision"
            f" {stored.bundle_revision[:12]} with {stored.dim} dimensions, not of"
            f" {wanted.bundle_name!r} revision {wanted.bundle_revision[:12]} with {wanted.dim}:"
            " name another collection (?collection=NAME)",
            field="bundle",
            code="bundle_mismatch",
        )


def unreachable(place: str, label: str, error: Exception) -> StoreError:
    """Return the error of a store that does not answer."""
    reason = str(error).strip().split("\n")[0]
    return StoreError(
        f"{place}: {label} does not answer ({reason}); check the address, and that it runs",
        field="collection",
    )


def refuse(place: str, label: str) -> NoReturn:
    """Refuse what only a collection on this disk can do."""
    raise InputError(
        f"{place} is kept by {label}; this works on a collection in a folder: bring it"
        " there with `twinlens index migrate`",
        field="collection",
        code="not_in_a_store",
    )
