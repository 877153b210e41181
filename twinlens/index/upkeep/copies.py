"""Finds the copies of images in a whole collection, and deletes all but one of each group.

An exact copy has the same pixels, or, where its image cannot be read, the same embedding. A near
copy has a similar embedding, and pixels that show the same picture at another size, compression or
crop. Every copy resembles the item that is kept, not only another copy: groups do not chain.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from twinlens.errors import InputError
from twinlens.index.collection import Collection
from twinlens.index.storage.records import Item
from twinlens.index.upkeep.live_rows import read_live_rows
from twinlens.index.upkeep.neighbours import find_pairs, group_identical
from twinlens.index.upkeep.pixels import DecodedImage, ImageReader, resemble
from twinlens.index.upkeep.removal import check_removal
from twinlens.index.writer import Writer

EXACT, NEAR = "exact", "near"
LARGEST, FIRST = "largest", "first"
CANDIDATE_COSINE = 0.85  # less similar ones are not compared by their pixels
BLIND_COSINE = 0.99  # from here on a copy, where an image cannot be read
BELOW_ONE = 0.999999
MOST_PAIRED = 64  # items of one embedding that are paired with each other


@dataclass(frozen=True)
class FoundCopy:
    """An item, how it copies the one that is kept, and the cosine of their embeddings."""

    item: Item
    kind: str
    cosine: float


@dataclass(frozen=True)
class CopyGroup:
    """An item to keep and its copies."""

    kept: Item
    copies: tuple[FoundCopy, ...]


def find_copies(
    collection: Collection,
    *,
    similarity: float | None = None,
    keep: str = LARGEST,
    only_exact: bool = False,
    trusts_paths: bool = True,
) -> list[CopyGroup]:
    """Return the groups of copies, oldest first.

    With `similarity`, a cosine, embeddings alone decide about near copies. `keep` tells which item
    of a group is kept: the `largest` image (the oldest of equal ones), or the `first` item.
    Without `trusts_paths` only images that the indexer read are opened.
    """
    if keep not in (LARGEST, FIRST):
        raise InputError(f"keep is {keep!r}; it must be {LARGEST} or {FIRST}", field="keep")
    if similarity is not None and not -1 <= similarity <= 1:
        raise InputError(
            f"similarity is {similarity}; it is a cosine, between -1 and 1", field="similarity"
        )
    pairs = _Pairs(collection, similarity, only_exact, trusts_paths)
    order = sorted(pairs.items, key=lambda rid: (-pairs.areas[rid] if keep == LARGEST else 0, rid))
    groups, taken = [], set[int]()
    for rid in order:
        if rid in taken:
            continue
        copies = [one for one in pairs.copies_of(rid) if one.item.rid not in taken]
        if copies:
            taken |= {rid, *(one.item.rid for one in copies)}
            groups.append(CopyGroup(pairs.items[rid], tuple(copies)))
    return sorted(groups, key=lambda group: group.kept.rid)


def remove_copies(
    writer: Writer, groups: Sequence[CopyGroup], max_delete: str | None = None
) -> int:
    """Delete the copies, durably on return; return how many. Items written since then stay."""
    with writer.catalog.blocking_commits():
        rids = [one.item.rid for group in groups for one in group.copies]
        kept = writer.catalog.by_rid([group.kept.rid for group in groups])
        found = writer.catalog.by_rid(rids)
        gone = [
            found[one.item.rid].id
            for group in groups
            for one in group.copies
            if group.kept.rid in kept and one.item.rid in found
        ]
        check_removal(len(gone), len(writer.collection), max_delete)
        return writer.delete(gone) if gone else 0


class _Pairs:
    """The confirmed pairs of items, with the areas of their images."""

    def __init__(
        self,
        collection: Collection,
        similarity: float | None,
        only_exact: bool,
        trusts_paths: bool,
    ) -> None:
        self.items: dict[int, Item] = {}
        self.areas: dict[int, int] = {}
        self._similarity = similarity
        self._only_exact = only_exact
        self._catalog = collection.catalog
        self._reader = ImageReader(trusts_paths=trusts_paths)
        self._found: dict[int, list[FoundCopy]] = defaultdict(list)
        for first, second, cosine in _candidates(collection, similarity):
            self._judge(first, second, cosine)

    def copies_of(self, rid: int) -> list[FoundCopy]:
        """Return the copies of one item, oldest first."""
        return sorted(self._found[rid], key=lambda one: one.item.rid)

    def _judge(self, first: int, second: int, cosine: float) -> None:
        """Keep a pair if it is one."""
        one, other = self._item(first), self._item(second)
        if one is None or other is None:
            return  # deleted meanwhile
        kind = self._kind_of(one, other, cosine)
        if kind is not None and (kind == EXACT or not self._only_exact):
            self._found[first].append(FoundCopy(other, kind, cosine))
            self._found[second].append(FoundCopy(one, kind, cosine))

    def _kind_of(self, first: Item, second: Item, cosine: float) -> str | None:
        one, other = self._picture(first), self._picture(second)
        if one is None or other is None:
            near = BLIND_COSINE if self._similarity is None else self._similarity
            return EXACT if cosine >= 1 else NEAR if cosine >= near else None
        if one.sha256 == other.sha256:
            return EXACT
        if self._only_exact:
            return None
        by_pixels = self._similarity is None
        is_near = resemble(one, other) if by_pixels else cosine >= (self._similarity or 0)
        return NEAR if is_near else None

    def _picture(self, item: Item) -> DecodedImage | None:
        picture = self._reader.read(item)
        self.areas[item.rid] = picture.area if picture else 0
        return picture

    def _item(self, rid: int) -> Item | None:
        if rid not in self.items:
            self.items.update(self._catalog.by_rid([rid]))
        return self.items.get(rid)


def _candidates(
    collection: Collection, similarity: float | None
) -> Iterator[tuple[int, int, float]]:
    """Yield pairs of rids with their cosine; identical embeddings have exactly 1, others less.

    Of more than `MOST_PAIRED` identical embeddings, all are paired with the oldest only.
    """
    snapshot = collection.snapshot()
    rids, rows = read_live_rows(snapshot)
    first, owner = group_identical(rows)
    members: list[list[int]] = [[] for _ in first]
    for rid, number in zip(rids.tolist(), owner.tolist(), strict=True):
        members[number].append(rid)
    for group in members:
        for place, one in enumerate(group[: 1 if len(group) > MOST_PAIRED else None]):
            yield from ((one, other, 1.0) for other in group[place + 1 :])
    lowest = CANDIDATE_COSINE if similarity is None else min(similarity, CANDIDATE_COSINE)
    order = np.argsort(first)  # by rid, as the index needs them
    places = first[order]
    for one, other, cosine in find_pairs(snapshot, rids[places], rows[places], lowest):
        both = members[order[one]][:MOST_PAIRED], members[order[other]][:MOST_PAIRED]
        for left, right in itertools.product(*both):
            yield left, right, min(cosine, BELOW_ONE)
