"""The files of an index: written to a new folder, and opened again, each checked before it is read.

A FAISS file is plain: any FAISS reads it. A tuning that an older version wrote is understood.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinlens.index.ann.candidates import INDEX_NAME, Candidates, IndexParams
from twinlens.index.ann.filtered_params import FilteredParams
from twinlens.index.ann.kinds import find_kind
from twinlens.index.ann.rabitq_lists import LISTS_NAME, RabitqLists
from twinlens.index.ann.recall import Recall
from twinlens.index.ann.tuner import Tuning
from twinlens.index.storage.durable import check_hashes, check_sizes
from twinlens.index.storage.records import IndexRow
from twinlens.index.vectors.faiss_setup import load_faiss
from twinlens.index.vectors.space import SPACE_NAME, Space


def open_index(folder: Path, row: IndexRow) -> Candidates:
    """Open an index; each file is checked before it is read.

    A FAISS index is mapped, so its lists stay in the page cache; one beside 4-bit codes is checked
    and mapped by the first search with a filter.
    """
    check_sizes(folder, row.files)

    def open_faiss() -> Any:
        check_hashes(folder, {INDEX_NAME: row.files[INDEX_NAME]})
        faiss = load_faiss()
        flags = faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY
        return faiss.read_index(str(folder / INDEX_NAME), flags)

    check_hashes(folder, {SPACE_NAME: row.files[SPACE_NAME]})
    space = Space.load(folder)
    if not find_kind(row.kind).has_rabitq:
        return Candidates(row.kind, open_faiss(), space)
    check_hashes(folder, {LISTS_NAME: row.files[LISTS_NAME]})
    return Candidates(row.kind, open_faiss, space, RabitqLists.load(folder / LISTS_NAME))


def save_index(folder: Path, index: Candidates) -> None:
    """Write an index into the folder that is about to be published."""
    load_faiss().write_index(index.stored, str(folder / INDEX_NAME))
    if index.codes is not None:
        index.codes.save(folder / LISTS_NAME)
    index.space.save(folder)


def tuning_from(raw: Mapping[str, Any]) -> Tuning:
    """Return the tuning that `dataclasses.asdict` serialised."""
    return Tuning(
        IndexParams(**_read_params(raw)),
        raw["target"],
        {name: _read_recall(one) for name, one in raw["recall"].items()},
        raw["milliseconds"],
        tuple(
            FilteredParams(
                one["share"], IndexParams(**found) if (found := _read_params(one)) else None
            )
            for one in raw.get("filtered", ())  # if missing, filtered searches are exact
        ),
        raw.get("confidence", 0.95),  # what 0.1 stated
    )


def _read_recall(raw: Mapping[str, Any]) -> Recall:
    return Recall(raw["value"], raw["low"], raw["high"], raw["queries"])


def _read_params(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters, which collections written by 0.1 call `dials`."""
    found: Mapping[str, Any] = (raw["params"] if "params" in raw else raw["dials"]) or {}
    return {name: found[name] for name in ("probe", "expansion") if name in found}
