"""Arithmetic on embeddings: rows, exact search, dimension reduction, FAISS setup, GPU copies.

What must stay true: functions of arrays; nothing here knows a file, a record or a collection.
Imported by: ann, collection, gallery, hits, ingest, lone_search, maintenance, query, searching,
snapshot, storage, stores, upkeep, verify, writer, `cli` and `serving`.
"""
