"""The captions of items as an SQLite full-text index inside the catalog, for search by words.

It changes in the transactions that change the items, once it exists: `caption_build` makes it in
batches, and goes on where a kill or an older version left it. The head says up to which rid it is
complete. A row of an item that is gone changes no answer: matches are joined with the items.
"""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

CAPTION_FIELDS = ("caption", "captions", "text", "title", "description", "sentence", "alt")
LABEL_FIELDS = ("label", "labels", "class", "cls", "category", "name", "tags", "keywords")
STATE = "captions"  # in the head
BATCH = 10_000

log = logging.getLogger(__name__)
_CREATE = (
    "CREATE VIRTUAL TABLE captions USING"
    " fts5(text, content='', tokenize='porter unicode61 remove_diacritics 2')"
)
# Scripts without spaces between words: each character is a word.
_CHARACTER = re.compile("([\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af])")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class CaptionState:
    """The fields that are indexed; items of lower rids than `next_rid` are in."""

    fields: tuple[str, ...]
    next_rid: int = 1

    @staticmethod
    def read(raw_head: Mapping[str, Any]) -> CaptionState | None:
        """Return the state that a head holds, or None without an index."""
        held = raw_head.get(STATE)
        return CaptionState(tuple(held["fields"]), held["next_rid"]) if held else None


class CaptionWriter:
    """Keeps the index in step within one transaction; `raw_head` receives its state."""

    def __init__(self, db: sqlite3.Connection, raw_head: dict[str, Any]) -> None:
        self._db = db
        self._raw_head = raw_head
        self._state = CaptionState.read(raw_head)

    def insert(self, rids: range, metadata: Sequence[Mapping[str, Any]]) -> None:
        """Index new items, unless older ones are still missing: then the build reaches them."""
        if self._state is None or self._state.next_rid != rids.start:
            return
        try:
            self._add(zip(rids, metadata, strict=True))
        except sqlite3.DatabaseError as error:
            self._give_up(error)
        else:
            self._move(CaptionState(self._state.fields, rids.stop))

    def delete(self, rid: int) -> None:
        """Take out an item that is about to be deleted."""
        if self._state is None or rid >= self._state.next_rid:
            return
        row = self._db.execute("SELECT metadata FROM items WHERE rid = ?", (rid,)).fetchone()
        text = caption_of(orjson.loads(row[0]), self._state.fields) if row else ""
        if not text:
            return
        try:
            self._db.execute(
                "INSERT INTO captions(captions, rowid, text) VALUES('delete', ?, ?)", (rid, text)
            )
        except sqlite3.DatabaseError as error:
            self._give_up(error)

    def start(self, fields: Sequence[str]) -> None:
        """Create an empty index, in place of one of other fields."""
        try:
            self._db.execute("DROP TABLE IF EXISTS captions")
        except sqlite3.DatabaseError:  # too damaged to be opened, which dropping does
            self._cut_out()
        self._db.execute(_CREATE)
        self._move(CaptionState(tuple(fields)))

    def catch_up(self, end: int) -> bool:
        """Index a batch of the items that are missing; return whether all before `end` are in."""
        if self._state is None:
            raise RuntimeError("the caption index was not started: this is a bug")
        rows = self._db.execute(
            "SELECT rid, metadata FROM items WHERE rid >= ? ORDER BY rid LIMIT ?",
            (self._state.next_rid, BATCH),
        ).fetchall()
        self._add((rid, orjson.loads(metadata)) for rid, metadata in rows)
        is_done = len(rows) < BATCH
        self._move(CaptionState(self._state.fields, end if is_done else rows[-1][0] + 1))
        return is_done

    def _add(self, items: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        assert self._state is not None
        fields = self._state.fields
        texts = ((rid, caption_of(metadata, fields)) for rid, metadata in items)
        self._db.executemany(
            "INSERT INTO captions(rowid, text) VALUES (?, ?)", [one for one in texts if one[1]]
        )

    def _cut_out(self) -> None:
        """Remove the table from the schema, and the tables that it consists of."""
        self._db.execute("PRAGMA writable_schema=ON")
        self._db.execute("DELETE FROM sqlite_master WHERE name = 'captions'")
        self._db.execute("PRAGMA writable_schema=RESET")
        for part in ("data", "idx", "docsize", "config"):
            self._db.execute(f"DROP TABLE IF EXISTS captions_{part}")

    def _give_up(self, error: sqlite3.DatabaseError) -> None:
        """Forget a damaged index: it is derived, and must not block writes."""
        log.error("the caption index is damaged, and will be built again: %s", error)
        self._state = None
        self._raw_head.pop(STATE, None)

    def _move(self, state: CaptionState) -> None:
        self._state = state
        self._raw_head[STATE] = asdict(state)


def caption_of(metadata: Mapping[str, Any], fields: Sequence[str]) -> str:
    """Return the text of an item that is indexed; empty if it has none."""
    return _segment("\n".join(texts_in(metadata, fields)))


def texts_in(metadata: Mapping[str, Any], fields: Sequence[str]) -> list[str]:
    """Return the different texts in these fields, which may hold lists."""
    found: dict[str, None] = {}
    for field in fields:
        value = metadata.get(field)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and one.strip():
                found[one.strip()] = None
    return list(found)


def match_expression(text: str) -> str:
    """Return the full-text query for any of the words of a text; empty without words."""
    words = dict.fromkeys(_WORD.findall(_segment(text).lower()))
    return " OR ".join(f'"{word}"' for word in words)


def _segment(text: str) -> str:
    return _CHARACTER.sub(r" \1 ", text)
