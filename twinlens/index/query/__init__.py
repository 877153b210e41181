"""Queries of a collection: texts, images and vectors, metadata filters, grouping.

What must stay true: parsing and evaluation only; no query is run here.
Imported by: collection, searching, snapshot, storage, stores, upkeep, `cli` and `serving`.
"""
