"""An index with its space and parameters: proposes candidate rows for queries.

Search parameters are passed with each call and the shared index is never changed, so it can be
searched from any number of threads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from twinlens.index.ann.kinds import IndexKind, find_kind
from twinlens.index.ann.rabitq_lists import RabitqLists
from twinlens.index.vectors.arrays import Floats, Mask, RowNumbers
from twinlens.index.vectors.exact import rescore
from twinlens.index.vectors.faiss_setup import load_faiss
from twinlens.index.vectors.gpu import DeviceIndex, copy_index
from twinlens.index.vectors.space import Space

INDEX_NAME = "index.faiss"
TUNED_K = 10


@dataclass(frozen=True)
class IndexParams:
    """`probe` lists or graph candidates are visited; `expansion` candidates per answer."""

    probe: int
    expansion: int

    def widened(self, k: int) -> IndexParams:
        """Return the parameters for k answers, which were tuned for `TUNED_K`."""
        farther = max(1.0, k / TUNED_K) ** 0.5
        return IndexParams(round(self.probe * farther), self.expansion)


class Candidates:
    """An open index: a FAISS index, and 4-bit codes if its kind has them.

    If rows were added in another order than their numbers the FAISS index is an `IndexIDMap`, which
    plain FAISS reads. Here the inner index is searched and the numbers are translated in NumPy:
    FAISS's own translation starts a team of threads for each query.

    With `codes`, the FAISS index has the same lists and serves searches with a filter; then
    `stored` may be a function that opens it when it is first needed.
    """

    def __init__(
        self, kind_name: str, stored: Any, space: Space, codes: RabitqLists | None = None
    ) -> None:
        self.kind_name = kind_name
        self.kind: IndexKind = find_kind(kind_name)
        self.space = space
        self.codes = codes
        self._open: Callable[[], Any] = stored if callable(stored) else lambda: stored
        self._row_of_place: RowNumbers | None = None
        self._known_params: dict[tuple[int, int], Any] = {}

    @functools.cached_property
    def stored(self) -> Any:
        """The FAISS index as it is written."""
        return self._open()

    @functools.cached_property
    def index(self) -> Any:
        """The FAISS index that is searched."""
        if not isinstance(self.stored, load_faiss().IndexIDMap):
            return self.stored
        self._read_order()
        return load_faiss().downcast_index(self.stored.index)

    @property
    def count(self) -> int:
        """The number of rows in the index."""
        return int(self.index.ntotal) if self.codes is None else self.codes.count

    @property
    def probes(self) -> tuple[int, ...]:
        """The values of `probe` worth trying on this index, from cheap to thorough."""
        if self.kind.param != "nprobe":
            return self.kind.probes
        most = max(1, self.list_count // 2)  # beyond this an exact scan is cheaper
        return tuple(probe for probe in self.kind.probes if probe <= most)

    @property
    def list_count(self) -> int:
        """The number of lists; 0 for kinds without lists."""
        if self.codes is not None:
            return self.codes.list_count
        return int(self.index.nlist) if self.kind.param == "nprobe" else 0

    def find(
        self,
        queries: Floats,
        rows: npt.NDArray[Any],
        k: int,
        params: IndexParams,
        allowed: Mask | None = None,
        *,
        filtered: bool = False,
    ) -> tuple[Floats, RowNumbers]:
        """Return the k best of the proposed rows, scored by their full embeddings `rows`."""
        places = self.propose_for(queries, k, params, allowed, filtered=filtered)
        return rescore(queries, rows, places, k)

    def propose_for(
        self,
        queries: Floats,
        k: int,
        params: IndexParams,
        allowed: Mask | None = None,
        *,
        filtered: bool = False,
    ) -> RowNumbers:
        """Return the candidates for k answers."""
        count = min(max(k, TUNED_K) * params.expansion, self.count)
        return self.propose(queries, count, params.probe, allowed, filtered=filtered)

    def propose(
        self,
        queries: Floats,
        count: int,
        probe: int,
        allowed: Mask | None = None,
        *,
        filtered: bool = False,
    ) -> RowNumbers:
        """Return up to `count` candidates per query, best first by approximate scores.

        `allowed` leaves out deleted rows, and with `filtered` also the rows that a filter excludes.
        """
        mapped = self.space.map_queries(queries)
        if self.codes is not None and not filtered:
            return self.codes.search(mapped, count, probe, allowed)
        index = self.index
        if allowed is None and self._copy is not None:
            found = self._copy.search(mapped, count, min(probe, index.nlist))
            if found is not None:
                return found[1]
        params = self._params(probe, count, self._bits(allowed))
        places: RowNumbers = index.search(mapped, count, params=params)[1]
        if self._row_of_place is not None:
            places = np.where(places < 0, places, self._row_of_place[places])
        return places

    def add(self, rows: npt.NDArray[Any], numbers: RowNumbers) -> None:
        """Add rows by their numbers to an `IndexIDMap`."""
        self.stored.add_with_ids(self.space.map_rows(rows[numbers]), numbers)
        self._read_order()

    def _read_order(self) -> None:
        self._row_of_place = load_faiss().vector_to_array(self.stored.id_map)

    def _bits(self, allowed: Mask | None) -> npt.NDArray[np.uint8] | None:
        """Return the allowed rows as bits for FAISS, or None if all rows are allowed."""
        if allowed is not None and self._row_of_place is not None:
            allowed = allowed[self._row_of_place]
            if allowed.all():
                return None
        return None if allowed is None else np.packbits(allowed, bitorder="little")

    def count_by_list(self, allowed: Mask) -> RowNumbers:
        """Return the number of allowed rows in each list; empty for kinds without lists."""
        if self.kind.param != "nprobe":
            return np.empty(0, np.int64)
        return np.bincount(self._list_of_row[allowed], minlength=self.index.nlist)

    def probe_for(self, queries: Floats, probe: int, per_list: RowNumbers, enough: int) -> int:
        """Return how many of the nearest lists to visit so that `probe` of them are well filled.

        If the allowed rows are spread evenly, this is `probe`. A filter against the query's
        direction leaves its nearest lists almost empty: such lists count only in part, and all
        visited lists together must hold `enough` allowed rows. `count_by_list` returns `per_list`.
        """
        if self.kind.param != "nprobe":
            return probe
        _, lists = self.index.quantizer.search(self.space.map_queries(queries), self.index.nlist)
        half_full = 0.5 * per_list.mean()  # a list with half of the mean counts in full
        filled = np.cumsum(np.minimum(1.0, per_list / half_full)[lists], axis=1)
        seen = np.cumsum(per_list[lists], axis=1)
        suffices = (filled >= min(probe, 0.999 * filled[0, -1])) & (
            seen >= min(enough, seen[0, -1])
        )
        return max(probe, int(np.max(np.argmax(suffices, axis=1))) + 1)

    @functools.cached_property
    def _copy(self) -> DeviceIndex | None:
        return copy_index(self.index, self.kind_name) if self.kind.on_gpu else None

    @functools.cached_property
    def _list_of_row(self) -> npt.NDArray[np.int32]:
        return read_list_of_row(self.index)

    def _params(self, probe: int, count: int, bits: npt.NDArray[np.uint8] | None) -> Any:
        if bits is not None:
            return self._new_params(probe, count, sel=load_faiss().IDSelectorBitmap(bits))
        known = self._known_params.get((probe, count))
        if known is None:  # few pairs occur; two threads may both build one
            known = self._known_params[probe, count] = self._new_params(probe, count)
        return known

    def _new_params(self, probe: int, count: int, **chosen: Any) -> Any:
        faiss = load_faiss()
        if self.kind.param == "nprobe":
            return faiss.SearchParametersIVF(nprobe=min(probe, self.index.nlist), **chosen)
        if self.kind.param == "efSearch":
            return faiss.SearchParametersHNSW(efSearch=max(probe, count), **chosen)
        return faiss.SearchParameters(**chosen)


def read_list_of_row(index: Any) -> npt.NDArray[np.int32]:
    """Return the list of each row of an inverted file."""
    faiss = load_faiss()
    owner = np.zeros(index.ntotal, dtype=np.int32)
    lists = index.invlists
    for number in range(index.nlist):
        size = lists.list_size(number)
        if size:
            owner[faiss.rev_swig_ptr(lists.get_ids(number), size)] = number
    return owner
