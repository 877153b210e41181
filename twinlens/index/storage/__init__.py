"""Storage on disk: the SQLite catalog as the single commit point, immutable segments, the delta.

What must stay true: a crash at any moment loses nothing committed; no FAISS here.
Imported by: ann, collection, gallery, hits, ingest, maintenance, searching, shown_items, snapshot,
stores, upkeep, verify, writer, `cli` and `serving`.
"""
